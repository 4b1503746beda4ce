package ratelimit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// tolerance is how many calls in a row may go without Redis's answer before
	// no more wait for one.
	tolerance = 3
	// proofs is how many probes in a row must be answered within the budget
	// before calls wait for Redis again.
	proofs = 3
	// probePeriod is the time between two tries. It is short: a replica that has
	// not come back yet spends its share while others have the whole limit again.
	probePeriod = 200 * time.Millisecond
	// calm is how long Redis must have answered for an outage to be a new one. The
	// first try of each other comes twice as late as that of the one before, up to
	// longestRest: a Redis that answers probes and no calls is not asked all the time.
	calm        = 30 * time.Second
	longestRest = 30 * time.Second
)

// A State says how it stands with Redis.
type State struct {
	// Configured is false without a Redis.
	Configured bool
	// Down says that Redis does not answer, and this replica goes on alone.
	Down bool
	// Since is when that began, or ended.
	Since time.Time
	// Why is the last failure, and nil if there was none.
	Why error
	// Shared, Local and Refused count decisions: by Redis, by this replica
	// alone, and those that could not be made. Failures counts the questions that
	// Redis did not answer, and Switches the times that it was given up.
	Shared, Local, Refused, Failures, Switches uint64
}

// A circuit keeps calls from waiting for a Redis that does not answer.
type circuit struct {
	// up says that calls ask Redis. It changes with turn held.
	up       atomic.Bool
	failures atomic.Int64 // in a row

	shared, alone, refused, missed, switches atomic.Uint64

	turn  sync.Mutex
	since time.Time // guarded by turn
	why   error     // guarded by turn
	// suspect is the tenant whose rules could not be asked for. Guarded by turn.
	suspect string
	// rest is the time from the loss of Redis to the first try. Guarded by turn.
	rest time.Duration

	quit    chan struct{}
	closing sync.Once
	// work counts what runs beside the calls.
	work sync.WaitGroup
}

func (s *store) state() State {
	s.turn.Lock()
	defer s.turn.Unlock()
	return State{Configured: true, Down: !s.up.Load(), Since: s.since, Why: s.why, Shared: s.shared.Load(), Local: s.alone.Load(),
		Refused: s.refused.Load(), Failures: s.missed.Load(), Switches: s.switches.Load()}
}

// begin makes the first try, and leaves the others to the background.
func (s *store) begin() {
	s.since, s.rest, s.suspect = time.Now(), probePeriod, "probe"
	tried := make(chan error, 1)
	s.work.Go(func() {
		err := s.restore()
		tried <- err
		if err != nil {
			s.note(err)
			s.tell()
			s.recover()
		}
	})
	select {
	case <-tried:
	case <-time.After(patience):
	}
}

// note remembers why Redis does not answer.
func (s *store) note(err error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.why = err
}

// failed counts a call that Redis has not answered, and gives it up after some.
func (s *store) failed(err error, tenant string) {
	s.missed.Add(1)
	if s.failures.Add(1) < tolerance {
		return
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	if !s.up.Load() || s.closed() {
		return
	}
	if s.rest = min(2*s.rest, longestRest); s.switches.Load() == 0 || time.Since(s.since) > calm {
		s.rest = probePeriod
	}
	s.up.Store(false)
	s.since, s.why, s.suspect = time.Now(), err, tenant
	s.switches.Add(1)
	s.work.Go(func() {
		s.tell()
		s.recover()
	})
}

// tell says that it has switched.
func (s *store) tell() {
	if state := s.state(); s.config.Switched != nil {
		s.config.Switched(state)
	}
}

func (s *store) closed() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}

// recover tries until Redis answers, or the store is closed.
func (s *store) recover() {
	s.turn.Lock()
	wait := s.rest
	s.turn.Unlock()
	for ; ; wait = probePeriod {
		select {
		case <-s.quit:
			return
		case <-time.After(wait/2 + rand.N(wait/2+1)):
		}
		err := s.restore()
		if err == nil {
			s.tell()
			return
		}
		s.note(err)
	}
}

// restore finds out whether Redis answers, in time. If so, it tells Redis what
// it may not know, and has calls ask it again.
func (s *store) restore() error {
	client, err := s.connect()
	if err != nil {
		return err
	}
	if err := s.prove(client); err != nil {
		return err
	}
	if err := s.carry(client); err != nil {
		return fmt.Errorf("tell Redis what was spent meanwhile: %w", err)
	}
	s.turn.Lock()
	s.up.Store(true)
	s.failures.Store(0)
	s.since = time.Now()
	s.turn.Unlock()
	s.settleEnded(client)
	return nil
}

// prove writes to Redis, as a decision does: some refuse that, and answer all
// else. The first try may take longer, as it may have to connect.
func (s *store) prove(client rueidis.Client) error {
	s.turn.Lock()
	key := s.config.Prefix + "{" + s.suspect + "}:probe"
	s.turn.Unlock()
	for i := range 1 + proofs {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		begun := time.Now()
		err := client.Do(ctx, client.B().Set().Key(key).Value("1").PxMilliseconds(1000).Build()).Error()
		cancel()
		if err != nil {
			return err
		}
		if took := time.Since(begun); i > 0 && took > s.config.Budget {
			return fmt.Errorf("ask Redis: an answer takes %v, longer than %v", took.Round(time.Millisecond), s.config.Budget)
		}
	}
	return nil
}

// carry tells Redis what the buckets owe that were charged here alone, and
// which calls are under way.
func (s *store) carry(client rueidis.Client) error {
	s.mu.Lock()
	byTenant := make(map[string]*Set)
	for at, rule := range s.touched {
		if byTenant[at.tenant] == nil {
			byTenant[at.tenant] = &Set{Tenant: at.tenant}
		}
		rule.Most = 0
		byTenant[at.tenant].Rules = append(byTenant[at.tenant].Rules, rule)
	}
	places := make(map[uint64]place, len(s.places))
	for id, p := range s.places {
		places[id] = p
	}
	s.mu.Unlock()
	for _, set := range byTenant {
		if err := s.carrySet(client, set); err != nil {
			return err
		}
	}
	if err := s.carryPlaces(client, places); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.touched)
	return nil
}

// carrySet has Redis take over what is known, by decisions that cost nothing.
func (s *store) carrySet(client rueidis.Client, set *Set) error {
	for rules := set.Rules; len(rules) > 0; {
		n := min(len(rules), MaxRules)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		q, _, _ := s.ask("spend", &Set{Tenant: set.Tenant, Rules: rules[:n]}, 0, 0)
		_, _, err := s.exec(ctx, client, q)
		cancel()
		if err != nil {
			return err
		}
		rules = rules[n:]
	}
	return nil
}

// carryPlaces enters the places of calls under way again.
func (s *store) carryPlaces(client rueidis.Client, places map[uint64]place) error {
	if len(places) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	clock, err := client.Do(ctx, client.B().Time().Build()).AsIntSlice()
	if err != nil {
		return err
	}
	now, there := time.Now(), clock[0]*1000
	var commands rueidis.Commands
	longest := make(map[string]int64)
	for id, p := range places {
		left := max(1, p.until.Sub(now).Milliseconds())
		for _, key := range p.keys {
			commands = append(commands,
				client.B().Zadd().Key(key).ScoreMember().ScoreMember(float64(there+left), s.member(id)).Build())
			longest[key] = max(longest[key], left)
		}
	}
	for key, left := range longest {
		// Another replica's places may last longer: what is lost of them is small.
		commands = append(commands, client.B().Pexpire().Key(key).Milliseconds(left).Build())
	}
	return s.all(client, commands)
}

// all does commands, many at a time.
func (s *store) all(client rueidis.Client, commands rueidis.Commands) error {
	for len(commands) > 0 {
		n := min(len(commands), 256)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		results := client.DoMulti(ctx, commands[:n]...)
		cancel()
		for _, result := range results {
			if err := result.Error(); err != nil {
				return err
			}
		}
		commands = commands[n:]
	}
	return nil
}

// background runs f beside the calls, unless the store is closed.
func (s *store) background(f func()) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if !s.closed() {
		s.work.Go(f)
	}
}

// release ends a call's places: in the background, or when Redis is back.
func (s *store) release(id uint64) {
	s.mu.Lock()
	p, known := s.places[id]
	delete(s.places, id)
	if known && len(s.ended) < maxEnded {
		s.ended, s.endedIDs = append(s.ended, p), append(s.endedIDs, id)
	}
	s.mu.Unlock()
	if known && s.up.Load() {
		s.background(func() {
			if client, err := s.reach(); err == nil {
				s.settleEnded(client)
			}
		})
	}
}

// settleEnded ends in Redis what has ended. What fails, its deadline ends.
func (s *store) settleEnded(client rueidis.Client) {
	s.mu.Lock()
	ended, ids := s.ended, s.endedIDs
	s.ended, s.endedIDs = nil, nil
	s.mu.Unlock()
	var commands rueidis.Commands
	for i, p := range ended {
		for _, key := range p.keys {
			commands = append(commands, client.B().Zrem().Key(key).Member(s.member(ids[i])).Build())
		}
	}
	_ = s.all(client, commands)
}

// close ends what runs beside the calls, and the connections.
func (s *store) close() {
	s.closing.Do(func() {
		s.turn.Lock()
		close(s.quit)
		s.up.Store(false)
		s.turn.Unlock()
	})
	s.work.Wait()
	if client := s.client.Swap(nil); client != nil {
		(*client).Close()
	}
}
