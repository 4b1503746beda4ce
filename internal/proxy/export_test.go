package proxy

import (
	"log/slog"
	"net/url"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/route"
)

// StageNames are the names of the stages, outermost first.
func StageNames() []string {
	var names []string
	for _, s := range stages {
		names = append(names, s.name)
	}
	return names
}

// CheckRules is checkRules.
func CheckRules(cfg *configv1.Config, methods []policy.Method) []config.Problem {
	return checkRules(cfg, methods)
}

// Admit compiles the policy of a configuration as Open does.
func Admit(cfg *configv1.Config, methods []policy.Method) (*policy.Policy, error) {
	var e edition
	err := e.admit(cfg, methods)
	return e.policy, err
}

// MethodsOf is methodsOf.
func MethodsOf(routes []*route.Route) []policy.Method { return methodsOf(routes) }

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

// ProxyOf is proxyOf, and who c1proxy is to the proxy.
func ProxyOf(p *configv1.Proxy, base *url.URL) (at, user string, err error) {
	u, ask, err := proxyOf(p, base)
	if err != nil || u == nil {
		return "", "", err
	}
	if ask != nil {
		info, err := ask()
		if err != nil {
			return u.String(), "", err
		}
		user = info.String()
	}
	return u.String(), user, nil
}

// Fixed is fixed.
func Fixed(inForce *configv1.Config) config.Check { return fixed(inForce) }
