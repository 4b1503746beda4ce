package proxy

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
	"github.com/c1proxy/c1proxy/internal/rest"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/telemetry"
)

// A gateway is what the stages of every call share. All of it but the edition
// stays as it is once calls arrive.
type gateway struct {
	logger     *slog.Logger
	metrics    *telemetry.Metrics
	traces     *telemetry.Traces // nil without traces
	log        *audit.Log
	limiter    *ratelimit.Fleet
	meters     meters
	maxMessage int
	shadows    shadows
	// routes are those of the procedures that the policy is about.
	routes []*route.Route
	// edition is the one in force, in which new calls begin.
	edition atomic.Pointer[edition]
	load    load
	// longest is the longest call of the edition at start.
	longest time.Duration
	// readers are those who read the audit, provers those of them who make a proof,
	// questions what is asked of it, and tails those who follow it.
	readers    places
	provers    places
	catchingUp chan struct{} // tails that read what is long on record
	questions  rations
	tails      rations
	// failures are those to authenticate.
	failures   *failures
	preflights preflights
	// stopping is closed when no more calls should come.
	stopping <-chan struct{}
}

// A binding is one procedure, bound to the line and to its destination.
type binding struct {
	gateway     *gateway
	route       *route.Route
	destination destination
	metrics     *telemetry.Procedure
	errors      errorWriter
	// rest says that the door is C1's own paths.
	rest bool
	// stream says that the handler answers piece by piece.
	stream bool
	// admin says that the door is the admin listener, whose callers are operators.
	admin bool
	// open names the rule by which every authenticated caller may call the
	// procedure; "" where the policy decides.
	open string
	// local is the destination, if c1proxy itself is.
	local Local
}

// An errorWriter writes an error in the form of a door.
type errorWriter interface {
	Write(w http.ResponseWriter, r *http.Request, err error) error
}

// handlers are the lines of all procedures, on each door.
type handlers struct {
	rpc  map[string]http.Handler       // by path
	rest map[*route.Route]http.Handler // of those that C1 has a path for
	// admin are those of the admin listener, by path.
	admin map[string]http.Handler
}

// bind returns the handlers of all procedures.
func (g *gateway) bind(routes []*route.Route, destinationOf func(*route.Route) destination) handlers {
	options := handlerOptions(g.maxMessage)
	errors := connect.NewErrorWriter(options...)
	all := handlers{rpc: make(map[string]http.Handler, len(routes)), rest: make(map[*route.Route]http.Handler, len(routes)),
		admin: make(map[string]http.Handler)}
	for _, r := range routes {
		b := binding{gateway: g, route: r, destination: destinationOf(r),
			metrics: g.metrics.Procedure(r.Method()), errors: errors}
		if local, ok := b.destination.(Local); ok {
			b.local, b.open, b.stream = local, local.Open, local.stream != nil
		}
		all.rpc[r.Procedure] = line(&b, newHandler(&b, options))
		if r.Verb != "" {
			own := b
			own.rest, own.errors = true, rest.ErrorWriter{}
			all.rest[r] = line(&own, http.HandlerFunc(own.serveREST))
		}
		if b.open == selfRule {
			asked := b
			asked.admin, asked.open = true, ""
			all.admin[r.Procedure] = line(&asked, newHandler(&asked, options))
		}
	}
	return all
}

// logFault logs what an operator must see: faults on our side or C1's, with
// their cause. What a caller did wrong is in the audit and the metrics, and so
// is what comes by the thousand when C1 is down or slow, which is logged once.
func (g *gateway) logFault(c *call, f *fault.Fault) {
	if f.Reason == fault.Overloaded || f.Reason == fault.UpstreamDown || f.Reason == fault.StreamEnded {
		return
	}
	switch f.Code {
	case connect.CodeUnavailable, connect.CodeInternal, connect.CodeUnknown, connect.CodeDeadlineExceeded, connect.CodeDataLoss:
		g.logger.Warn("a call failed", append(c.names(), "fault", f)...)
	}
}
