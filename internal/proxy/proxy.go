package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"connectrpc.com/grpchealth"
	"google.golang.org/protobuf/reflect/protoregistry"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/siem"
	"github.com/c1proxy/c1proxy/internal/telemetry"
	"github.com/c1proxy/c1proxy/web/console"
)

const (
	// mirrored is the package prefix of the procedures that go to C1.
	mirrored = "c1."
	// maxBuckets bounds the rate limiter's memory.
	maxBuckets = 1 << 16
	// drainSlack is what stopping may take beyond the longest call, where
	// listen.drain_timeout does not say.
	drainSlack = 10 * time.Second
)

// Options is what a Proxy needs besides its configuration.
type Options struct {
	// Logger is required.
	Logger *slog.Logger
	// Version is told to C1 in the User-Agent header.
	Version string
	// Local are procedures that the proxy answers itself.
	Local []Local
}

// A Proxy is a running gateway.
type Proxy struct {
	gateway *gateway
	options Options
	routes  []*route.Route
	reloads reloads
	// sinks ship the audit's records; nil until they are opened.
	sinks    atomic.Pointer[[]*siem.Sink]
	health   *grpchealth.StaticChecker
	services []string

	server, adminServer     *http.Server
	listener, adminListener net.Listener
	connections             *connections
	drainDelay              time.Duration
	drainTime               time.Duration // 0 for as long as the longest call may take
	draining                atomic.Bool
}

// Open builds a Proxy out of a configuration that Check has passed: it opens
// the audit, which recovers what the last run left, and binds the listeners.
// It calls nobody. What is opened is closed again if it fails.
func Open(ctx context.Context, cfg *configv1.Config, options Options) (_ *Proxy, err error) {
	p := &Proxy{
		options: options,
		gateway: &gateway{
			logger:     options.Logger,
			metrics:    telemetry.New(),
			failures:   newFailures(),
			maxMessage: int(cfg.GetListen().GetMaxMessageBytes()),
		},
		connections: newConnections(int(cfg.GetListen().GetMaxConnections()), cfg.GetListen().GetMaxConnectionAge().AsDuration()),
	}
	p.gateway.longest = longestOf(cfg)
	p.gateway.stopping = p.connections.quit
	p.gateway.load.most = int64(cfg.GetListen().GetMaxCalls())
	p.gateway.load.memory.open()
	p.gateway.readers, p.gateway.provers, p.gateway.catchingUp = newReaders(), newProvers(), make(chan struct{}, maxCatchingUp)
	tails := min(maxTails, max(1, int(p.gateway.load.most/4)))
	p.gateway.tails = newRations("tails", tails, max(tailsEach, tails/2), tailsEach)
	p.gateway.questions = newRations("questions about the audit", maxQuestions, questionsTeam, questionsEach)
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	var locals map[string]Local
	if p.routes, locals, err = loadRoutes(append(p.gateway.ownProcedures(), options.Local...)); err != nil {
		return nil, err
	}
	p.gateway.routes = slices.DeleteFunc(slices.Clone(p.routes), func(r *route.Route) bool { return locals[r.Procedure].Open != "" })
	if err := p.gateway.openTraces(cfg.GetTelemetry().GetTraces(), options); err != nil {
		return nil, err
	}
	first, err := p.openEdition(cfg, nil)
	if err != nil {
		return nil, err
	}
	p.enforce(first)
	p.reloads.last.at = time.Now()
	if err := p.openAudit(ctx, cfg.GetAudit(), p.routes, options); err != nil {
		return nil, err
	}
	if err := p.openLimiter(cfg.GetRedis()); err != nil {
		return nil, err
	}
	handlers := p.gateway.bind(p.routes, func(r *route.Route) destination {
		if local, ok := locals[r.Procedure]; ok {
			return local
		}
		return &upstreams{route: r}
	})
	p.services = servicesOf(p.routes)
	p.health = p.gateway.mount(handlers.rpc, p.services, cfg.GetListen().GetReflection())
	p.measure()
	p.measureEdition()
	p.measureSinks()
	p.measureLimits()
	return p, p.listen(cfg, handlers)
}

// openAudit opens the log, and what ships its records.
func (p *Proxy) openAudit(ctx context.Context, cfg *configv1.Audit, routes []*route.Route, options Options) (err error) {
	p.gateway.log, err = audit.Open(ctx, audit.Config{
		Dir: cfg.GetDir(), KeyFile: cfg.GetKeyFile(), Origin: cfg.GetOrigin(),
		SegmentBytes: int64(cfg.GetSegmentBytes()), MinFreeBytes: cfg.GetMinFreeBytes(), ReserveBytes: cfg.GetReserveBytes(),
		Retain: audit.Retain{Age: cfg.GetRetain().GetAge().AsDuration(), Bytes: int64(cfg.GetRetain().GetBytes()),
			ArchiveDir: cfg.GetRetain().GetArchiveDir()},
		Holds: p.Holds, Logger: options.Logger})
	if err != nil {
		return err
	}
	return p.openSinks(cfg, routes, options)
}

// loadRoutes returns the routes of the mirror and of the local procedures,
// and the latter's destinations by procedure.
func loadRoutes(local []Local) ([]*route.Route, map[string]Local, error) {
	routes, err := route.Load(catalog.Files(), catalog.Types{}, mirrored)
	if err != nil {
		return nil, nil, err
	}
	locals := make(map[string]Local, len(local))
	for _, l := range local {
		r, err := route.Local(protoregistry.GlobalTypes, l.Method)
		if err != nil {
			return nil, nil, err
		}
		routes = append(routes, r)
		locals[r.Procedure] = l
	}
	return routes, locals, nil
}

// methodsOf are the routes as the policy knows them.
func methodsOf(routes []*route.Route) []policy.Method {
	methods := make([]policy.Method, len(routes))
	for i, r := range routes {
		methods[i] = policy.Method{Name: r.Method(), ReadOnly: r.ReadOnly, Draft: r.Stability == route.Draft, Input: r.Descriptor.Input()}
	}
	return methods
}

func servicesOf(routes []*route.Route) []string {
	var services []string
	for _, r := range routes {
		services = append(services, string(r.Descriptor.Parent().FullName()))
	}
	slices.Sort(services)
	return slices.Compact(services)
}

// listen binds both listeners.
func (p *Proxy) listen(cfg *configv1.Config, all handlers) error {
	var tlsConfig *tls.Config
	if files := cfg.GetListen().GetTls(); files != nil {
		pair, err := openCertificate(files.GetCertFile(), files.GetKeyFile(), p.gateway.logger)
		if err != nil {
			return err
		}
		tlsConfig = &tls.Config{GetCertificate: pair.get, MinVersion: tls.VersionTLS12}
		if authorities := p.gateway.edition.Load().authorities; authorities != nil {
			authorities.Accept(tlsConfig)
		}
	}
	var err error
	if p.listener, err = listen(cfg.GetListen().GetAddress()); err != nil {
		return err
	}
	if p.adminListener, err = listen(cfg.GetAdmin().GetAddress()); err != nil {
		return err
	}
	router, err := newRouter(all)
	if err != nil {
		return err
	}
	p.drainDelay, p.drainTime = cfg.GetListen().GetDrainDelay().AsDuration(), cfg.GetListen().GetDrainTimeout().AsDuration()
	site, err := console.New(describe)
	if err != nil {
		return err
	}
	p.server = newServer(p.gateway.serveConsole(site, p.gateway.crossOrigin(router)), tlsConfig, p.gateway.longest, p.gateway.logger)
	p.connections.guard(p.server)
	p.adminServer = newServer(p.admin(all.admin), nil, p.gateway.longest, p.gateway.logger)
	return nil
}

func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
}

// Addr is the address that calls come to, with the port that was chosen.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

// AdminAddr is the address of the admin listener.
func (p *Proxy) AdminAddr() net.Addr { return p.adminListener.Addr() }

// Handler is the whole line of every procedure, for a server of the caller's
// own. Serve must still run, or Close be called.
func (p *Proxy) Handler() http.Handler { return p.server.Handler }

// VerifierKey is the key by which the audit's signed heads are verified.
func (p *Proxy) VerifierKey() string { return p.gateway.log.VerifierKey() }

// SealAudit ends the audit's current segment, signs its head and begins a new
// one, so that the old one can be taken away whole.
func (p *Proxy) SealAudit(ctx context.Context) error { return p.gateway.log.Seal(ctx) }

// Serve serves until ctx ends, and then stops cleanly: it says at once that it
// is not ready, goes on for listen.drain_delay with answers that close their
// connections, then takes no new calls, waits for those under way and for their
// outcomes to be on record, and closes everything. An error means that not all
// of that worked; what has no outcome on record then gets one at the next start.
func (p *Proxy) Serve(ctx context.Context) error {
	failed := make(chan error, 2)
	go func() { failed <- serve(p.server, p.listener) }()
	go func() { failed <- serve(p.adminServer, p.adminListener) }()
	select {
	case <-ctx.Done():
		p.unready()
		time.Sleep(p.drainDelay)
		return p.stop()
	case err := <-failed:
		p.unready()
		return errors.Join(err, p.stop())
	}
}

// unready tells whoever asks that no more calls should come.
func (p *Proxy) unready() {
	p.draining.Store(true)
	for _, service := range append(p.services, "") {
		p.health.SetStatus(service, grpchealth.StatusNotServing)
	}
	p.connections.retire()
}

// stop drains the server, then the calls that outlived their callers, then
// closes.
func (p *Proxy) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(p.drainTime, p.reloads.longest()+drainSlack))
	defer cancel()
	go p.connections.closeFresh(ctx)
	err := errors.Join(drain(ctx, p.server), p.gateway.load.wait(ctx))
	p.gateway.traces.Close(ctx) // spans that are lost are no failure
	return errors.Join(err, p.Close())
}

// Close releases everything at once. Serve calls it; a Proxy that never
// served must be closed by its owner.
func (p *Proxy) Close() error {
	p.connections.retire() // which ends what watches beside the calls
	var errs []error
	for _, server := range []*http.Server{p.server, p.adminServer} {
		if server != nil {
			errs = append(errs, server.Close())
		}
	}
	for _, listener := range []net.Listener{p.listener, p.adminListener} {
		if listener != nil {
			_ = listener.Close() // the server has closed it already, if it served
		}
	}
	p.reloads.end()
	p.gateway.limiter.Close()
	p.gateway.traces.Close(context.Background()) // at the latest; stop has done it, within its time
	if p.gateway.log != nil {
		errs = append(errs, p.gateway.log.Close())
		p.closeSinks() // of which what fails is no failure: it is shipped later
	}
	return errors.Join(errs...)
}
