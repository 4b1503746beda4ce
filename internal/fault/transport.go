package fault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// A ProxyRefusal is what an HTTP proxy answered that was asked for a connection:
// its status, and none of its words.
type ProxyRefusal struct{ Status int }

// Error is in words of our own.
func (p *ProxyRefusal) Error() string {
	return fmt.Sprintf("the proxy refused the connection: %d %s", p.Status, http.StatusText(p.Status))
}

// Speakable returns the part of an HTTP client's error that is fit for a log: it
// is known to hold no byte that the peer sent after it had our request, and so no
// secret that the request gave it. Of any other error it tells the type. (A
// malformed answer, for one, is quoted in its error, and so are the words of a
// GOAWAY.) A context's error stays what it is.
func Speakable(err error) error {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var op *net.OpError
	var refusal *ProxyRefusal
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &dns):
		return dns
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &op):
		return op
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	}
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	return fmt.Errorf("transport error of type %T", err)
}
