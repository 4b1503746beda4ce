package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/fault"
)

// The events of a reload in the audit. One that succeeds names both revisions.
const (
	eventReloaded = "config_reloaded"
	eventRefused  = "config_refused"
)

const (
	// askTime bounds how long a reload waits for the first tokens of credentials
	// that are new. Only one that C1 refuses by then stops it.
	askTime = 5 * time.Second
	// eventTime bounds how long a reload waits for its event to be durable.
	eventTime = 10 * time.Second
)

// reloads is what came of the readings of the configuration.
type reloads struct {
	mu sync.Mutex // held for the length of a reload, so that there is one at a time
	// closed says that there is none any more. Guarded by mu.
	closed bool
	// editions are those that are not closed, the one in force among them.
	// Guarded by mu.
	editions []*edition

	state sync.Mutex // guards what follows
	last  loaded
}

// loaded says what came of the readings so far.
type loaded struct {
	succeeded, failed uint64
	// at is when the edition in force was, tried when one was last tried.
	at, tried time.Time
	// err is why the last one failed; nil if it did not.
	err error
}

// Reload reads the configuration anew and has it in force, as a whole or not at
// all: it is read and checked, all that is new in it is opened, C1 is asked for
// a token with each credential that is new, and the audit has an event with both
// revisions, before the first call is decided by it. Calls under way keep the
// configuration in which they began; streams end.
//
// read is given the check that finds what cannot change while the Proxy runs,
// and must apply it and Check. trigger says in the event what made the reload.
// On an error, which the audit has an event of too, all is as before. Reload may
// be called at any time, also before Serve and while it stops; reloads wait for
// each other.
func (p *Proxy) Reload(ctx context.Context, trigger string, read func(config.Check) (*configv1.Config, error)) error {
	p.reloads.mu.Lock()
	defer p.reloads.mu.Unlock()
	if p.reloads.closed {
		return errors.New("reload configuration: the proxy is closed")
	}
	before := p.gateway.edition.Load()
	cfg, err := read(fixed(before.config))
	if err == nil {
		err = p.replace(ctx, trigger, before, cfg)
	}
	p.reloads.note(err)
	if err != nil {
		// That it cannot be recorded, the audit says itself.
		_ = p.event(ctx, eventRefused, before.revision, map[string]string{"trigger": trigger, "in_force": before.revision, "error": err.Error()})
		return fmt.Errorf("reload configuration: revision %s serves on: %w", before.revision, err)
	}
	return nil
}

// replace has a configuration in force that was checked.
func (p *Proxy) replace(ctx context.Context, trigger string, before *edition, cfg *configv1.Config) error {
	e, err := p.openEdition(cfg, before)
	if err != nil {
		return err
	}
	if err = e.ask(ctx, before); err == nil {
		err = p.event(ctx, eventReloaded, e.revision, map[string]string{"trigger": trigger, "before": before.revision, "after": e.revision})
	}
	if err != nil {
		e.close()
		return err
	}
	p.enforce(e)
	close(before.replaced)
	before.unpin()
	return nil
}

// enforce has an edition in force. The caller holds reloads.mu, or is Open.
func (p *Proxy) enforce(e *edition) {
	for _, t := range e.tenants {
		t.gate.Resize(t.places)
	}
	p.reloads.editions = append(p.reloads.editions, e)
	p.gateway.edition.Store(e)
}

// retire closes an edition that nobody is pinned to, and forgets what was
// measured of what went with it.
func (p *Proxy) retire(e *edition) {
	p.reloads.mu.Lock()
	defer p.reloads.mu.Unlock()
	e.close()
	kept := p.reloads.editions[:0]
	for _, other := range p.reloads.editions {
		if other != e {
			kept = append(kept, other)
		}
	}
	p.reloads.editions = kept
	inForce := p.gateway.edition.Load()
	for name := range e.tenants {
		if inForce.tenants[name] == nil {
			p.gateway.metrics.ForgetTenant(name)
		}
	}
	for _, issuer := range e.config.GetIssuers() {
		if !inForce.hasIssuer(issuer.GetName()) {
			p.gateway.metrics.ForgetIssuer(issuer.GetName())
		}
	}
}

// end closes all editions, and has no other come.
func (r *reloads) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, e := range r.editions {
		e.close()
	}
}

// longest is the longest time that a call under way may take.
func (r *reloads) longest() (longest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.editions {
		longest = max(longest, e.longest)
	}
	return longest
}

// ask asks C1 for a token with each credential that the edition before has not.
// It returns the error of one that C1 refuses: that C1 is away is no reason to
// keep a configuration from being used.
func (e *edition) ask(ctx context.Context, before *edition) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var asked sync.WaitGroup
	refused := make(chan error, len(e.accesses()))
	known := before.accesses()
	for a := range e.accesses() {
		if known[a] {
			continue
		}
		asked.Go(func() {
			if _, err := a.source.Token(ctx); err != nil && fault.Of(err).Reason == fault.UpstreamCredentialRejected {
				refused <- err
			}
		})
	}
	asked.Wait()
	close(refused)
	return <-refused
}

// event records an event about the configuration, and waits until it is durable.
func (p *Proxy) event(ctx context.Context, name, revision string, detail map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, eventTime)
	defer cancel()
	err := p.gateway.log.Append(ctx, &audit.Record{Kind: audit.KindEvent, Event: name, PolicyRevision: revision, Detail: detail})
	if err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	return nil
}

// note keeps what came of a reading.
func (r *reloads) note(err error) {
	r.state.Lock()
	defer r.state.Unlock()
	r.last.tried, r.last.err = time.Now(), err
	if err != nil {
		r.last.failed++
		return
	}
	r.last.succeeded++
	r.last.at = r.last.tried
}

func (r *reloads) loaded() loaded {
	r.state.Lock()
	defer r.state.Unlock()
	return r.last
}

// upToDate says whether the configuration in force is what was last read. One
// that is not makes nobody unready: the old one serves.
func (p *Proxy) upToDate() string {
	last := p.reloads.loaded()
	if last.err == nil {
		return "ok"
	}
	return fmt.Sprintf("warning: revision %s of %s serves on, because the one of %s cannot be used: %v", p.Revision(),
		last.at.UTC().Format(time.RFC3339), last.tried.UTC().Format(time.RFC3339), last.err)
}

// Revision names the configuration in force.
func (p *Proxy) Revision() string { return p.gateway.edition.Load().revision }
