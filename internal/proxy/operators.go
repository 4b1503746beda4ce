package proxy

import (
	"fmt"
	"slices"

	"connectrpc.com/connect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// operators are those who may ask about every caller, on the admin listener:
// with keys of their own, of which each has scopes.
type operators struct {
	callers *authn.Authenticator
	scopes  map[string][]string // by the key's name
}

// openOperators reads the keys of the admin listener. The authenticator must be
// closed.
func openOperators(cfg *configv1.Admin, g *gateway) (*operators, error) {
	o := &operators{scopes: make(map[string][]string)}
	keys := authn.Config{Logger: g.logger}
	for _, key := range cfg.GetKeys() {
		c, err := apiKey(&configv1.ApiKey{Sha256: key.GetSha256(), Expires: key.GetExpires()}, principal.Principal{Caller: key.GetName()})
		if err != nil {
			return nil, fmt.Errorf("read admin key %s: %w", key.GetName(), err)
		}
		keys.Keys = append(keys.Keys, c)
		o.scopes[key.GetName()] = key.GetScopes()
	}
	var err error
	o.callers, err = authn.Open(keys)
	return o, err
}

// close ends what openOperators has begun. Nil is legal.
func (o *operators) close() {
	if o != nil {
		o.callers.Close()
	}
}

// allow returns the rule by which an operator may call a procedure: the scope that
// it asks for, or "" if it asks for none.
func (o *operators) allow(who *principal.Principal, scope string) (rule string, err error) {
	switch {
	case scope == "":
		return "admin/" + selfRule, nil
	case slices.Contains(o.scopes[who.Caller], scope):
		return "admin/" + scope, nil
	}
	return "", fault.New(connect.CodePermissionDenied, fault.MethodDenied,
		"the admin key %s has no scope %s: add it to scopes in admin.keys", who.Caller, scope).With("scope", scope)
}
