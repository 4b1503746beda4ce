package proxy

import (
	"errors"
	"fmt"
	"net/url"

	"golang.org/x/net/http/httpproxy"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/forward"
)

// A way leads to one tenant's C1, for calls and for tokens. Each has
// connections of its own, so that a token can be had while calls fill theirs.
type way struct {
	calls, tokens *forward.Transport
	holding       holding
}

// wayOf makes the way to a tenant. What it needs is read once, so that it fails
// the start.
func wayOf(t *configv1.Tenant, base *url.URL, options Options) (*way, error) {
	cfg := forward.TransportConfig{CAFile: t.GetCaFile(), Logger: options.Logger}
	var err error
	if cfg.Proxy, cfg.ProxyUser, err = proxyOf(t.GetProxy(), base); err != nil {
		return nil, err
	}
	w := new(way)
	w.holding.close = w.close
	if w.calls, err = forward.NewTransport(cfg); err == nil {
		w.tokens, err = forward.NewTransport(cfg)
	}
	return w, err
}

func (w *way) close() {
	w.calls.CloseIdleConnections()
	w.tokens.CloseIdleConnections()
}

// A userFunc returns who c1proxy is to a proxy.
type userFunc = func() (*url.Userinfo, error)

// proxyOf is the proxy by which a tenant is reached, if there is one, and who
// c1proxy is to it. Without a configuration it is the environment's, which has
// none for this machine itself.
func proxyOf(p *configv1.Proxy, base *url.URL) (*url.URL, userFunc, error) {
	if p == nil {
		return proxyFromEnvironment(base)
	}
	at, err := url.Parse(p.GetUrl())
	if err != nil {
		return nil, nil, errors.New("read url of its proxy: it is no URL")
	}
	if p.GetPassword() == nil {
		return at, nil, nil
	}
	user := func() (*url.Userinfo, error) {
		secret, err := config.ReadSecret(p.GetPassword())
		if err != nil {
			return nil, fmt.Errorf("read password of proxy: %w", err)
		}
		return url.UserPassword(p.GetUsername(), secret.Reveal()), nil
	}
	_, err = user()
	return at, user, err
}

// proxyFromEnvironment reads HTTPS_PROXY and NO_PROXY, as they are now. Errors
// do not show what they hold. A tenant over plain http has no proxy: a request
// through one would not be the same, byte for byte.
func proxyFromEnvironment(base *url.URL) (*url.URL, userFunc, error) {
	if base.Scheme != "https" {
		return nil, nil, nil
	}
	at, err := httpproxy.FromEnvironment().ProxyFunc()(base)
	if err == nil && at == nil {
		return nil, nil, nil
	}
	// The library takes what is no URL for a host's name.
	if err != nil || at.Hostname() == "" || at.Path != "" && at.Path != "/" {
		return nil, nil, errors.New("read HTTPS_PROXY: it is not the URL of a proxy")
	}
	if at.Scheme != "http" && at.Scheme != "https" {
		return nil, nil, errors.New("read HTTPS_PROXY: only http:// and https:// proxies are supported")
	}
	stripped := *at
	stripped.User = nil
	if at.User == nil {
		return &stripped, nil, nil
	}
	return &stripped, func() (*url.Userinfo, error) { return at.User, nil }, nil
}
