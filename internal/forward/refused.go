package forward

import (
	"context"
	"net/http"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// deliver makes an attempt. If C1 turns it away for the want of a DPoP nonce,
// and for nothing else, it makes one more with the nonce that C1 gave (RFC 9449,
// section 9): C1 has not looked at the token, let alone acted, so this is
// neither a second delivery nor a refusal of the token.
func (x *Exchange) deliver(ctx context.Context) (Result, error) {
	result, err := x.attempt(ctx)
	if !result.nonce {
		return result, err
	}
	first := result.Attempts
	result, err = x.attempt(ctx)
	result.Attempts = append(first, result.Attempts...)
	result.Sent = true
	return result, err
}

// resends reports whether the request may be sent once more after C1 refused
// its token. What has no side effects may always.
func (x *Exchange) resends() bool { return x.upstream.cfg.ResendOn401 || x.route.ReadOnly }

// distrusted is the fault of a request that C1 answered 401 to, and that is not
// sent again because C1 is not trusted to have done so before it acted.
func (x *Exchange) distrusted() error {
	return fault.Unusable(x.route.ReadOnly, http.StatusUnauthorized, "C1 refused c1proxy's access token (401)")
}
