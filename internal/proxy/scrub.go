package proxy

import (
	"maps"
	"net/url"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
)

// This file is about API keys and JWTs that stand where they do not belong: in a path, a
// query, a reason, a field's name. They get into no record, log or message, and
// not to C1, which writes down paths and queries too.

// keyInPath returns the fault of path values that hold an API key or a JWT, or
// nil.
func keyInPath(values []route.Value) error {
	for _, value := range values {
		if authn.Holds(value.Text) {
			return fault.New(connect.CodeInvalidArgument, fault.BadPathValue,
				"%s holds an API key or a token, which belongs in the Authorization header alone: have it replaced", value.Field).With("field", value.Field)
		}
	}
	return nil
}

// keyInQuery returns the fault of a query that holds an API key, or nil. A JWT
// may be C1's own, such as a page token, and goes into no record.
func keyInQuery(query string) error {
	text, err := url.QueryUnescape(query)
	if authn.HoldsKey(query) || err == nil && authn.HoldsKey(text) {
		return fault.New(connect.CodeInvalidArgument, fault.BadRequest,
			"the query holds an API key, which belongs in the Authorization header alone: have it replaced")
	}
	return nil
}

// scrubbed is f without API keys and JWTs in what it shows.
func scrubbed(f *fault.Fault) *fault.Fault {
	held := authn.Holds(f.Message)
	for _, value := range f.Metadata {
		held = held || authn.Holds(value)
	}
	if !held {
		return f
	}
	clean := *f
	clean.Message, clean.Metadata = authn.Scrub(f.Message), maps.Clone(f.Metadata)
	for key, value := range clean.Metadata {
		clean.Metadata[key] = authn.Scrub(value)
	}
	return &clean
}
