package proxy

import "log/slog"

// StageNames are the names of the stages, outermost first.
func StageNames() []string {
	var names []string
	for _, s := range stages {
		names = append(names, s.name)
	}
	return names
}

// StatedReason is statedReason.
var StatedReason = statedReason

// Certificate is a certificate, for its tests.
type Certificate = certificate

// OpenCertificate is openCertificate.
func OpenCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	return openCertificate(certFile, keyFile, logger)
}

// Serial is the serial number of the certificate that a handshake would get.
func (c *certificate) Serial() (string, error) {
	pair, err := c.get(nil)
	if err != nil {
		return "", err
	}
	return pair.Leaf.SerialNumber.String(), nil
}
