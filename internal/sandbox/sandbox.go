package sandbox

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/c1proxy/c1proxy/internal/catalog"
)

const (
	// TokenPath is where tokens are had.
	TokenPath = "/auth/v1/token"
	// TokenEndpoint stands for the token endpoint where a procedure is named,
	// such as in a Rule or a Request.
	TokenEndpoint = "token"
)

// Config says what to emulate. Its zero value is a benign C1.
type Config struct {
	// Host is the tenant's host without port: a name or an address at which
	// clients reach the sandbox. Client ids carry it, and assertions must be
	// meant for it. Start takes it from the address, New makes it
	// "localhost", where it is empty.
	Host string
	// ClientID and ClientSecret are the credential of the client that signs
	// assertions; the secret is an Ed25519 JWK in C1's wrapping. Both or
	// neither: they are made where they are empty.
	ClientID, ClientSecret string
	// TokenLifetime is how long an access token lives; ten minutes if 0.
	TokenLifetime time.Duration
	// SyncTime is how long a started sync is seen running; 15 s if 0.
	SyncTime time.Duration
	// ClockSkew is how far this C1's clock is ahead of the machine's. It shows
	// in the Date header and in every check of a time.
	ClockSkew time.Duration
	// Seed drives Chaos; 0 chooses one, which Facts tells.
	Seed uint64
	// Chaos is what goes wrong by chance. The zero value is nothing.
	Chaos Chaos
	// Remember is how many requests, of the API and of the token endpoint
	// each, the record keeps: 10,000 if 0, none if negative. The counters
	// count on.
	Remember int
	// TLS makes Start serve TLS, with HTTP/2, under a certificate of its own.
	TLS bool
	// Files are searched for services of packages below "c1."; nil means all of
	// the mirror.
	Files *protoregistry.Files
	// Types are what messages are made of. Where one is missing, as all are if
	// it is nil, a dynamic type from Files stands in for it, and where these
	// have none, one that is linked into the program.
	Types Resolver
	// Stateless makes every procedure answer what its descriptor says, those too
	// that have state otherwise.
	Stateless bool
	// Log gets one line for each request, without secrets; nil means none.
	Log *slog.Logger
}

// A Sandbox is an emulated C1. Its methods may be called at any time, from
// any goroutine.
type Sandbox struct {
	config  Config // with its defaults; never changes
	routes  *router
	types   *types
	methods map[string]method // by procedure; the methods with state
	clients *registry
	tokens  *tokens
	nonces  nonces
	world   *world
	record  *record
	faults  *script
	turn    atomic.Uint32 // see Vary
}

// New returns a Sandbox, ready to serve. It does no I/O. The errors are a
// Config that contradicts itself, and a descriptor that cannot be routed.
func New(config Config) (*Sandbox, error) {
	config = withDefaults(config)
	if err := config.Chaos.check(); err != nil {
		return nil, fmt.Errorf("read chaos: %w", err)
	}
	routes, err := newRouter(config.Files)
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	s := &Sandbox{config: config, routes: routes, types: newTypes(config.Types, config.Files), record: newRecord(config.Remember)}
	if s.clients, err = newRegistry(config, s.now); err != nil {
		return nil, fmt.Errorf("make clients: %w", err)
	}
	s.tokens = newTokens(config.TokenLifetime, s.now)
	if s.world, err = newWorld(config.SyncTime, s.now); err != nil {
		return nil, fmt.Errorf("make world: %w", err)
	}
	s.methods = s.world.methods()
	s.faults = newScript(config.Seed, config.Chaos)
	return s, nil
}

// withDefaults fills in what New documents.
func withDefaults(config Config) Config {
	if config.Host == "" {
		config.Host = "localhost"
	}
	if config.TokenLifetime == 0 {
		config.TokenLifetime = 10 * time.Minute
	}
	if config.SyncTime == 0 {
		config.SyncTime = 15 * time.Second
	}
	if config.Remember == 0 {
		config.Remember = 10_000
	}
	for config.Seed == 0 {
		config.Seed = rand.Uint64()
	}
	if config.Files == nil {
		config.Files = catalog.Files()
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return config
}

// now is the time by this C1's clock.
func (s *Sandbox) now() time.Time { return time.Now().Add(s.config.ClockSkew) }

// ServeHTTP answers one request, as C1 would or as a fault has it. Whatever
// is answered stands in the record before the first byte of it is sent.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{sandbox: s, w: w, r: r, path: rawPath(r)}
	x.found = s.routes.match(r.Method, x.path)
	x.entry = s.record.open(r, x.procedure())
	x.fault = s.faults.next(r, x.procedure())
	x.update(func(q *Request) { q.Fault = x.fault.name })
	defer x.close()
	x.serve()
}

// Procedures names every method that is routed, in order, as
// "c1.api.app.v1.ConnectorService/List".
func (s *Sandbox) Procedures() []string { return s.routes.procedures() }

// RevokeAll makes every access token invalid, the static one too. Tokens
// issued afterwards are good.
func (s *Sandbox) RevokeAll() { s.tokens.revokeAll() }

// Vary chooses among the answers that are made from a descriptor. Each of them
// holds one member of each oneof, one value of each enum, and one type for each
// Any that stands alone: with 0 the first that is worth seeing, with n the
// n-th after it, and after the last the first again.
func (s *Sandbox) Vary(n uint16) { s.turn.Store(uint32(n)) }

// Restore puts apps, connectors and syncs back as New made them.
func (s *Sandbox) Restore() { s.world.restore() }
