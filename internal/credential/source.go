// Package credential gets the access tokens with which c1proxy calls C1.
//
// A Source holds the token of one tenant. Whoever needs it while it is valid
// gets it at once. It is replaced in the background before it expires; the old
// one is handed out meanwhile, an expired one never. However many callers wait
// for a token, one exchange is under way for all of them, tied to none, and
// each waits no longer than its own context allows. Once asked, a Source keeps
// a token at hand until it is closed, whether or not anybody asks again.
//
// Nothing of a secret, a token or a token endpoint's answer is ever in an
// error, a log line or anything printed.
package credential

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// A Config says how a tenant's tokens are got. Exactly one of ClientSecret,
// SubjectToken and AccessToken is set. These three are read again for each
// exchange, so that a rotated file is picked up; they may be called
// concurrently, must return in a short time, and their errors go to the log,
// so that they must not hold the secret. Space around a value is trimmed.
type Config struct {
	// Tenant is the tenant's name, for messages.
	Tenant string
	// Team is the name of the team whose own credential it is, for messages and
	// for the name of a static token; "" for the tenant's.
	Team string
	// URL is the tenant's base URL: scheme, host and port alone. The token
	// endpoint is below it, and its tokens are for it. It is not changed.
	URL *url.URL
	// ClientID is the C1 client id. It is unused with AccessToken.
	ClientID string
	// ClientSecret returns a C1 client secret. One with an Ed25519 key in it
	// signs an assertion and is never sent; any other is sent.
	ClientSecret func() (string, error)
	// SubjectToken returns the OIDC token of the platform that c1proxy runs
	// on, for workload federation (RFC 8693).
	SubjectToken func() (string, error)
	// AccessToken returns a static token, which never expires for us.
	AccessToken func() (string, error)
	// DPoP binds the tokens to a key of the Source's (RFC 9449), as a
	// credential of C1's may require. Tokens that are not bound are then
	// refused. It is of no use with AccessToken.
	DPoP bool
	// Next is the credential that is to take this one's place, or nil. It is
	// tried first at each exchange. As long as it is refused, or its secret
	// cannot be had, the other one serves.
	Next *Next
	// Transport makes the requests. Nil means one like http.DefaultTransport.
	Transport http.RoundTripper
	// Logger gets a line for each failure that is new. Nil means none.
	Logger *slog.Logger
	// Observe is called after each exchange with the credential's client id
	// ("access_token" for a static one), its outcome, "ok", "unavailable" or
	// "rejected", and how long it took. A credential whose secret cannot be used
	// counts as rejected. Nil is legal. It may be called concurrently and must
	// not block.
	Observe func(credential, outcome string, took time.Duration)
}

// owner says whose tokens they are.
func (c *Config) owner() string {
	if c.Team != "" {
		return fmt.Sprintf("tenant %q, team %q", c.Tenant, c.Team)
	}
	return fmt.Sprintf("tenant %q", c.Tenant)
}

// owners are owner for the log.
func (c *Config) owners() []slog.Attr {
	attrs := []slog.Attr{slog.String("tenant", c.Tenant)}
	if c.Team != "" {
		attrs = append(attrs, slog.String("team", c.Team))
	}
	return attrs
}

// A Next is a second credential, for the time in which two overlap. Its fields
// are as in Config; exactly one of ClientSecret and SubjectToken is set.
type Next struct {
	ClientID     string
	ClientSecret func() (string, error)
	SubjectToken func() (string, error)
	DPoP         bool
}

// A Source gets and keeps the tokens of one tenant. It is safe for concurrent
// use. Close it when it is no longer needed.
type Source struct {
	cfg       Config
	transport http.RoundTripper
	log       *slog.Logger
	main      *identity
	next      *identity // nil if there is none
	prover    *prover
	ctx       context.Context // ends when the Source is closed
	cancel    context.CancelFunc
	flights   sync.WaitGroup

	// current is the token to hand out; nil or out of time if there is none.
	// It is stored under mu and loaded without.
	current atomic.Pointer[issued]
	logged  atomic.Pointer[logged]
	served  atomic.Pointer[identity] // whose token the last one was
	skew    atomic.Int64             // how far C1's clock is ahead of ours, at the last look

	mu       sync.Mutex
	flight   *flight     // what is under way, or nil
	launched time.Time   // when the last flight began
	failure  *failure    // of the last flight; nil if it succeeded
	failures int         // how many failed in a row
	held     time.Time   // until when failure answers callers
	refused  *issued     // the static token that C1 has just refused
	timer    *time.Timer // of the next flight that no caller asks for
	closed   bool
}

// New returns a Source. It does no I/O: the first exchange is made for the
// first caller of Token. A client id that is for another host than the
// tenant's URL is an error that names both.
func New(cfg Config) (*Source, error) {
	if err := check(&cfg); err != nil {
		return nil, fmt.Errorf("use credential of %s: %w", cfg.owner(), err)
	}
	base := *cfg.URL // a copy, which nobody else can change
	cfg.URL = &base
	s := &Source{cfg: cfg, transport: cfg.Transport, log: cfg.Logger}
	s.main = &identity{name: cfg.ClientID, secret: cfg.ClientSecret, subject: cfg.SubjectToken, dpop: cfg.DPoP}
	if cfg.AccessToken != nil {
		s.main.name = staticName
		if cfg.Team != "" {
			s.main.name += " of team " + cfg.Team
		}
	}
	if n := cfg.Next; n != nil {
		s.next = &identity{name: n.ClientID, secret: n.ClientSecret, subject: n.SubjectToken, dpop: n.DPoP}
	}
	var err error
	if s.prover, err = newProver(); err != nil {
		return nil, err
	}
	if s.transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxResponseHeaderBytes = maxAnswer
		s.transport = t
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func check(cfg *Config) error {
	if err := checkURL(cfg.URL); err != nil {
		return err
	}
	forms := 0
	for _, f := range []func() (string, error){cfg.ClientSecret, cfg.SubjectToken, cfg.AccessToken} {
		if f != nil {
			forms++
		}
	}
	if forms != 1 {
		return errors.New("want exactly one of a client secret, a subject token and an access token")
	}
	if cfg.AccessToken != nil {
		if cfg.DPoP || cfg.Next != nil {
			return errors.New("an access token stands alone: it is bound to no key of ours, and nothing comes after it")
		}
		return nil
	}
	if err := checkClient(cfg.ClientID, cfg.URL); err != nil || cfg.Next == nil {
		return err
	}
	switch {
	case (cfg.Next.ClientSecret == nil) == (cfg.Next.SubjectToken == nil):
		return errors.New("want exactly one of a client secret and a subject token of the next credential")
	case cfg.Next.ClientID == cfg.ClientID:
		return errors.New("the next credential has the same client id: C1 gives each one of its own")
	}
	return checkClient(cfg.Next.ClientID, cfg.URL)
}

// Token returns a valid token. While there is one, that is an atomic load: no
// lock, no allocation, no look at ctx. Otherwise it waits for the exchange
// under way, or begins one, for as long as ctx allows.
//
// The error is a *fault.Fault: deadline_exceeded or canceled if ctx ended
// first; unavailable with TOKEN_UNAVAILABLE if no token could be had, with
// UPSTREAM_CREDENTIAL_REJECTED if C1 refuses the credential, or with
// SHUTTING_DOWN after Close. After a failure the same answer is given from
// memory for a while, 0.9 s at most for one that may pass by itself, 5 s for
// one that may not, or as long as the endpoint's Retry-After says, up to 30 s.
func (s *Source) Token(ctx context.Context) (Token, error) {
	if t := s.current.Load(); t.usable() {
		return Token{t}, nil
	}
	for ctx.Err() == nil {
		f, err := s.join()
		if err != nil {
			return Token{}, err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			f.impatient.Store(true)
			continue
		}
		if f.failure != nil {
			return Token{}, f.failure.fault(&s.cfg, f.hold)
		}
		if f.token.usable() {
			return Token{f.token}, nil
		}
	}
	return Token{}, fault.Of(ctx.Err())
}

// landed is a flight that ended well with t.
func landed(t *issued) *flight {
	f := &flight{done: make(chan struct{}), token: t}
	close(f.done)
	return f
}

// join returns the flight to wait for, beginning one if need be, or the fault
// that is still fresh in memory.
func (s *Source) join() (*flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.current.Load(); t.usable() {
		return landed(t), nil
	}
	if s.closed {
		return nil, (&failure{closed: true}).fault(&s.cfg, 0)
	}
	if s.flight != nil {
		return s.flight, nil
	}
	if wait := time.Until(s.held); s.failure != nil && wait > 0 {
		return nil, s.failure.fault(&s.cfg, wait)
	}
	return s.launch(), nil
}

// Invalidate drops a token that C1 answered 401 to, if it is still the current
// one: of a thousand callers with the same token, one makes the next Token get
// another. The zero Token does nothing.
//
// A static token is read again. If it has not changed, Token reports that it
// is refused, for some seconds, before it is tried once more.
//
// A token of the next credential, of which C1 has not accepted any yet, makes
// the other one serve until the token after.
func (s *Source) Invalidate(t Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.issued == nil || s.current.Load() != t.issued {
		return
	}
	s.current.Store(nil)
	if s.cfg.AccessToken != nil {
		s.refused = t.issued
	}
	if from := t.issued.from; from == s.next && !from.accepted.Load() {
		from.doubted = true
	}
}

// Credentials names the credentials that tokens can be got with, as
// Token.Credential does; the next one comes first.
func (s *Source) Credentials() []string {
	if s.next == nil {
		return []string{s.main.name}
	}
	return []string{s.next.name, s.main.name}
}

// Format prints the tenant's name, for every verb.
func (s *Source) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "credential of %s", s.cfg.owner())
}

// A State is a Source's state at one moment.
type State struct {
	// Valid is true if there is a token to hand out.
	Valid bool
	// Expiry is when it expires; zero if there is none, or it is static.
	Expiry time.Time
	// Credential names the credential that it was got with, as
	// Token.Credential does; empty if there is no token.
	Credential string
	// Skew is how far C1's clock is ahead of ours, as the Date of the token
	// endpoint's last answer has it; 0 if there was none.
	Skew time.Duration
	// Failures is how many exchanges have failed in a row.
	Failures int
	// Err is the last exchange's failure, a *fault.Fault; nil if it succeeded
	// or there was none yet.
	Err error
}

// State returns the current state, for metrics.
func (s *Source) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := State{Failures: s.failures, Skew: time.Duration(s.skew.Load())}
	if t := s.current.Load(); t.usable() {
		state.Valid, state.Expiry, state.Credential = true, t.expiry, t.from.name
	}
	if s.failure != nil {
		state.Err = s.failure.fault(&s.cfg, time.Until(s.held))
	}
	return state
}

// Ready returns nil if there is a token to hand out, and otherwise why not. A
// Source is not ready before the first Token. Once it has been asked, it goes
// on by itself until there is a token, with pauses of at most 30 s.
func (s *Source) Ready() error {
	state := s.State()
	switch {
	case state.Valid:
		return nil
	case state.Err != nil:
		return state.Err
	}
	return fmt.Errorf("get access token of %s: none was asked for yet", s.cfg.owner())
}

// Close ends the exchange under way and the background refresh, and waits for
// both. A token that is still valid is handed out until it is not.
func (s *Source) Close() {
	s.mu.Lock()
	s.closed = true
	s.arm(0)
	s.mu.Unlock()
	s.cancel()
	s.flights.Wait()
}
