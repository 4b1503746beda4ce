package authn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/fault"
)

const (
	// refreshAfter is how long an issuer's keys are used before they are fetched
	// anew: a key that the issuer has removed dies within it, give or take a
	// tenth and the time of a fetch, while the issuer answers.
	refreshAfter = 5 * time.Minute
	// maxStale is how long keys are used while the issuer does not answer.
	maxStale = time.Hour
	// askAgain is how often, at most, tokens with unknown keys cause a fetch.
	askAgain = 10 * time.Second
	// retryFirst and retryMost bound the wait after a fetch that failed.
	retryFirst, retryMost = time.Second, 30 * time.Second
	// fetchTimeout bounds one fetch: the discovery document and the keys.
	fetchTimeout = 5 * time.Second
	// maxWait is how long a call waits for a fetch, and maxWaiting how many do.
	maxWait, maxWaiting = 3 * time.Second, 256
)

// An IssuerConfig is an OIDC issuer and what is accepted of it.
type IssuerConfig struct {
	// Name is for records, metrics and messages.
	Name string
	// URL is the issuer, letter by letter as in iss and in its discovery document.
	URL string
	// Audiences are the values of aud of which a token must have one.
	Audiences []string
	// Algorithms are those of JWS (RFC 7518) that are accepted: asymmetric ones
	// only. Empty means DefaultAlgorithms.
	Algorithms []string
	// MaxLifetime is the longest that a token may live.
	MaxLifetime time.Duration
	// AllowInsecure lets the keys lie at a URL of plain http.
	AllowInsecure bool
	// Transport leads to the issuer; nil is http.DefaultTransport.
	Transport http.RoundTripper
	// Before is an Issuer of the same URL whose keys are taken over, with their
	// age; nil for none. It is only read.
	Before *Issuer
	// Observe is told of each fetch of keys; nil is legal.
	Observe func(ok bool)
	// Logger gets a line when the issuer ceases to answer, and when it does
	// again. Required.
	Logger *slog.Logger
}

// An Issuer keeps the keys of an OIDC issuer. It is safe for concurrent use.
type Issuer struct {
	cfg        IssuerConfig
	algorithms []algorithm
	client     *http.Client
	bySubject  map[string][]TokenRule
	anyone     []TokenRule // without a subject
	wake       chan struct{}

	mu      sync.Mutex
	keys    map[string]jose.JSONWebKey // guarded by mu; by kid
	round   uint64                     // guarded by mu; counts the fetches that brought keys
	fetched time.Time                  // guarded by mu; when keys were had, zero for never
	failure error                      // guarded by mu; of the last fetch
	flying  bool                       // guarded by mu; a fetch is under way, or about to be
	landed  chan struct{}              // guarded by mu; closed when a fetch ends
	asked   time.Time                  // guarded by mu; when an unknown key last caused a fetch
	waiting int                        // guarded by mu

	tokenEndpoint string // guarded by mu; "" while it is not known
}

func newIssuer(cfg IssuerConfig) *Issuer {
	names := cfg.Algorithms
	if len(names) == 0 {
		names = DefaultAlgorithms
	}
	i := &Issuer{cfg: cfg, bySubject: make(map[string][]TokenRule), wake: make(chan struct{}, 1),
		flying: true, landed: make(chan struct{}),
		client: &http.Client{Transport: cfg.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	for _, name := range names {
		i.algorithms = append(i.algorithms, algorithm(name))
	}
	i.inherit(cfg.Before)
	i.cfg.Before = nil // which may have had one too
	return i
}

// inherit takes over another Issuer's keys. One that has none, or nil, leaves
// nothing.
func (i *Issuer) inherit(from *Issuer) {
	if from == nil {
		return
	}
	from.mu.Lock()
	defer from.mu.Unlock()
	if from.fetched.IsZero() {
		return
	}
	i.keys, i.round, i.fetched, i.failure, i.asked = from.keys, from.round, from.fetched, from.failure, from.asked
	i.tokenEndpoint = from.tokenEndpoint
	i.flying = false
}

// run fetches the keys, and goes on with it until ctx ends. No one else does, so
// that there is one fetch at a time.
func (i *Issuer) run(ctx context.Context) {
	retry := retryFirst
	for pause := i.firstPause(); i.sleep(ctx, pause); {
		err := i.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		pause = refreshAfter
		if err != nil {
			pause, retry = retry, min(2*retry, retryMost)
		} else {
			retry = retryFirst
		}
	}
}

// firstPause is how long the first fetch can wait: not at all without keys.
func (i *Issuer) firstPause() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.fetched.IsZero():
		return 0
	case i.failure != nil:
		return retryFirst
	}
	return max(0, refreshAfter-time.Since(i.fetched))
}

// sleep waits, a tenth more or less, or until it is woken. It is false if ctx
// has ended.
func (i *Issuer) sleep(ctx context.Context, pause time.Duration) bool {
	if pause <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(pause + time.Duration((rand.Float64()-0.5)/5*float64(pause)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-i.wake:
	}
	return true
}

// begin notes that a fetch is under way, which serves who asked for one too.
func (i *Issuer) begin() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.flying = true
	select {
	case <-i.wake:
	default:
	}
}

// refresh fetches the keys once, and tells all who wait. Keys that were had
// before stay if it fails.
func (i *Issuer) refresh(ctx context.Context) error {
	i.begin()
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	found, err := i.fetch(ctx)
	if i.cfg.Observe != nil {
		i.cfg.Observe(err == nil)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case err != nil && i.failure == nil && !errors.Is(ctx.Err(), context.Canceled):
		i.cfg.Logger.Warn("the keys of an OIDC issuer cannot be had; those at hand are used for a while", "issuer", i.cfg.Name, "error", err)
	case err == nil && i.failure != nil:
		i.cfg.Logger.Info("the keys of an OIDC issuer are had again", "issuer", i.cfg.Name)
	}
	if err == nil {
		i.keys, i.tokenEndpoint, i.fetched = found.keys, found.tokenEndpoint, time.Now()
		i.round++
	}
	i.failure, i.flying = err, false
	close(i.landed)
	i.landed = make(chan struct{})
	return err
}

// key returns the issuer's key with an id. For one that is unknown the keys are
// fetched anew, at most every askAgain for all callers together, and the call
// waits for a fetch that is under way. The error is a *fault.Fault: unavailable
// while the keys cannot be had, and unauthenticated for a key that there is not.
func (i *Issuer) key(ctx context.Context, id string) (jose.JSONWebKey, error) {
	key, landed, err := i.look(id, true)
	if landed == nil {
		return key, err
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-landed:
	case <-timer.C:
	case <-ctx.Done():
	}
	i.mu.Lock()
	i.waiting--
	i.mu.Unlock()
	if ctx.Err() != nil {
		return jose.JSONWebKey{}, fault.Of(ctx.Err())
	}
	key, _, err = i.look(id, false)
	return key, err
}

// look looks a key up. If it may be that a fetch brings it, look sees to it that
// there is one, and returns what is closed at its end: the caller waits for it,
// and is counted among the waiting.
func (i *Issuer) look(id string, ask bool) (key jose.JSONWebKey, landed chan struct{}, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	usable := i.usable(now) == nil
	key, known := i.keys[id]
	if usable && known {
		return key, nil, nil
	}
	if ask && usable && !i.flying && (i.asked.IsZero() || now.Sub(i.asked) >= askAgain) {
		i.asked, i.flying = now, true
		i.wake <- struct{}{} // there is room: refresh has taken out what was there
	}
	if ask && i.flying && i.waiting < maxWaiting {
		i.waiting++
		return key, i.landed, nil
	}
	if !usable || i.failure != nil {
		return key, nil, i.unavailable()
	}
	return key, nil, refuse(fault.Unauthenticated, "kid", "the token's key (kid) is none of issuer %s's", i.cfg.Name)
}

// currentRound counts the fetches that have brought keys.
func (i *Issuer) currentRound() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.round
}

// inRound tells whether the keys are those of a round, and can still be used.
func (i *Issuer) inRound(round uint64, now time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.round == round && i.usable(now) == nil
}

// usable says why the keys cannot be used. Called with mu held.
func (i *Issuer) usable(now time.Time) error {
	switch {
	case i.fetched.IsZero() && i.failure != nil:
		return fmt.Errorf("its keys were never had: %w", i.failure)
	case i.fetched.IsZero():
		return errors.New("its keys have not been had yet")
	case now.Sub(i.fetched) >= maxStale:
		return fmt.Errorf("its keys are of %s, too old: %w", i.fetched.UTC().Format(time.RFC3339), i.failure)
	}
	return nil
}

// unavailable is the fault of a token whose key cannot be had.
func (i *Issuer) unavailable() error {
	f := fault.New(connect.CodeUnavailable, fault.IssuerUnavailable,
		"the keys of issuer %s cannot be had, so its token cannot be verified: nothing was sent", i.cfg.Name).With("issuer", i.cfg.Name)
	f.RetryAfter = retryFirst
	return f.Because(i.failure)
}

// A State is what is known of an issuer's keys.
type State struct {
	// Err says why tokens cannot be verified; nil if they can.
	Err error
	// Failure is why the last fetch failed; nil if it did not.
	Failure error
	// Fetched is when the keys were had, zero for never.
	Fetched time.Time
}

// State is the state of now.
func (i *Issuer) State() State {
	i.mu.Lock()
	defer i.mu.Unlock()
	return State{Err: i.usable(time.Now()), Failure: i.failure, Fetched: i.fetched}
}

// TokenEndpoint is where clients get the issuer's tokens, as its discovery document
// says; "" while that is not known. Nothing is ever sent there by an Issuer.
func (i *Issuer) TokenEndpoint() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.tokenEndpoint
}

// Name is the issuer's name.
func (i *Issuer) Name() string { return i.cfg.Name }
