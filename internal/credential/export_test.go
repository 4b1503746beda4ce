package credential

import (
	"time"

	"github.com/go-jose/go-jose/v4"
)

// What parses is opened to fuzz targets and tables.
var (
	ClientHost  = clientHost
	ParseSecret = parseSecret
	Lifetime    = lifetime
)

// Sign makes an assertion now.
func Sign(key *jose.JSONWebKey, clientID, audience string) (string, error) {
	return sign(key, clientID, audience, time.Now())
}
