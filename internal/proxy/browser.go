package proxy

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	connectcors "connectrpc.com/cors"
	"github.com/rs/cors"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
)

// This file is about calls that web pages make from a browser.

// preflightAge is for how long a browser may remember what it may send. None
// remembers for longer than two hours. An origin that is no longer allowed is
// refused at once all the same.
const preflightAge = 2 * time.Hour

// browsers are the web pages that may call. They are not changed.
type browsers struct {
	origins map[string]bool
	cors    *cors.Cors
}

// newBrowsers returns the browsers of a list of origins, which may be empty. The
// routes say which verbs there are.
//
// Origins are compared letter by letter, here and not by their list: the library
// would take a * for a pattern, and capitals for small letters. Credentials are
// not allowed: a browser sends neither cookies nor a client certificate of its
// own accord.
func newBrowsers(origins []string, routes []*route.Route) *browsers {
	b := &browsers{origins: make(map[string]bool, len(origins))}
	for _, origin := range origins {
		b.origins[origin] = true
	}
	methods := connectcors.AllowedMethods()
	for _, r := range routes {
		if r.Verb != "" && !slices.Contains(methods, r.Verb) {
			methods = append(methods, r.Verb)
		}
	}
	b.cors = cors.New(cors.Options{
		AllowOriginFunc: func(origin string) bool { return b.origins[origin] },
		AllowedMethods:  methods,
		AllowedHeaders: append(connectcors.AllowedHeaders(),
			"Authorization", "C1proxy-Team", "C1proxy-Reason", "X-Request-Id", "Traceparent", "Tracestate"),
		ExposedHeaders: append(connectcors.ExposedHeaders(),
			"X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy", "WWW-Authenticate"),
		MaxAge: int(preflightAge / time.Second),
	})
	return b
}

// preflights counts the answers to preflights.
type preflights struct{ allowed, refused atomic.Uint64 }

// crossOrigin is outside of all calls: it answers preflights, which carry no
// credential and are no calls, and lets pages of allowed origins read whatever is
// answered, errors included. It refuses nothing else: see checkOrigin.
func (g *gateway) crossOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := g.edition.Load().browsers
		preflight := r.Method == http.MethodOptions && r.Header["Access-Control-Request-Method"] != nil
		if preflight || len(b.origins) > 0 { // else there is nothing to say, and nothing varies
			b.cors.HandlerFunc(w, r)
		}
		switch {
		case !preflight:
			next.ServeHTTP(w, r)
		case w.Header()["Access-Control-Allow-Origin"] != nil:
			g.preflights.allowed.Add(1)
		default:
			g.preflights.refused.Add(1)
		}
	})
}

// checkOrigin refuses calls of web pages that are not allowed. That the page could
// not read the answer is not enough: the call would have been made.
func checkOrigin(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		if origins := r.Header["Origin"]; len(origins) > 0 {
			c.origin = authn.Scrub(origins[0])
		}
		if !c.edition.browsers.admit(r) {
			b.refuse(c, r, fault.New(connect.CodePermissionDenied, fault.OriginDenied,
				"the web page that calls is of an origin that is not allowed: an operator may add it to cors.allowed_origins"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// admit says whether a call is none of a web page's, or of one that is allowed. A
// browser names the page's origin, except where it loads something without the
// page's code being able to see it; then Sec-Fetch-Site tells of another site.
// Pages of c1proxy's own origin, such as the console, may call. Over plain http from
// another machine a browser does not say Sec-Fetch-Site; the page's origin is then
// held against the host that was asked for. What is no browser can write whatever it
// likes here, and is asked for a credential as ever.
func (b *browsers) admit(r *http.Request) bool {
	origins, site := r.Header["Origin"], r.Header.Get("Sec-Fetch-Site")
	switch {
	case len(origins) > 1:
		return false
	case len(origins) == 1 && b.origins[origins[0]]:
		return true
	case len(origins) == 1 && site == "":
		return r.TLS == nil && r.Host != "" && strings.EqualFold(origins[0], "http://"+r.Host)
	case len(origins) == 1:
		return site == "same-origin"
	}
	return site == "" || site == "same-origin" || site == "none"
}
