package ratelimit

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

//go:embed decide.lua
var decideLua string

var script = rueidis.NewLuaScript(decideLua)

// patience is how long a request to Redis may take that no call waits for.
const patience = time.Second

// A RedisConfig says where the limits of a fleet are.
type RedisConfig struct {
	// Addresses are HOST:PORT of Redis or Valkey, or a path of a socket. Of a
	// cluster, some of its nodes.
	Addresses []string
	Username  string
	// Password is read for each connection; nil for none.
	Password func() (string, error)
	// TLS is nil for clear text.
	TLS *tls.Config
	// Database is 0 for a cluster.
	Database int
	// Prefix begins every key.
	Prefix string
	// Budget is the longest that a call waits for Redis.
	Budget time.Duration
	// Refuse has calls refused while Redis does not answer, in place of going on
	// with this replica's share.
	Refuse bool
	// Replicas is how many there are: a share is a limit through it. Below 1 it
	// counts as 1.
	Replicas int64
	// Switched is told of each switch, in order, from one goroutine; nil for
	// nobody.
	Switched func(State)
}

// A store is a Fleet's way to Redis.
type store struct {
	config RedisConfig
	local  *Limiter
	// name is this process's own, among the places.
	name string
	// client is nil until the first connection.
	client atomic.Pointer[rueidis.Client]
	circuit
	memory
}

// OpenFleet returns a Fleet that shares its limits by Redis. It tries to reach
// it for at most a second; it begins alone if it does not.
func OpenFleet(maxBuckets int, cfg RedisConfig) *Fleet {
	cfg.Replicas = max(1, cfg.Replicas)
	f := NewFleet(maxBuckets)
	s := &store{config: cfg, local: f.local, name: rand.Text()[:10] + "-"}
	s.places, s.touched = make(map[uint64]place), make(map[bucket]Rule)
	s.quit = make(chan struct{})
	f.store = s
	s.begin()
	return f
}

// reach returns the client, which was made when Redis first answered.
func (s *store) reach() (rueidis.Client, error) {
	if c := s.client.Load(); c != nil {
		return *c, nil
	}
	return nil, errors.New("ask Redis: the connection is closed")
}

// connect makes the client, unless there is one.
func (s *store) connect() (rueidis.Client, error) {
	if c := s.client.Load(); c != nil {
		return *c, nil
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress:         s.config.Addresses,
		SelectDB:            s.config.Database,
		AuthCredentialsFn:   s.credentials,
		DialCtxFn:           s.dial,
		Dialer:              net.Dialer{Timeout: patience, KeepAlive: patience},
		ConnWriteTimeout:    patience,
		PipelineMultiplex:   -1, // one connection to a node
		ReadBufferEachConn:  64 << 10,
		WriteBufferEachConn: 64 << 10,
		AlwaysPipelining:    true, // so that a late answer does not cost the connection
		DisableCache:        true,
		DisableRetry:        true,
		ClientSetInfo:       rueidis.DisableClientSetInfo,
	})
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	s.client.Store(&client)
	return client, nil
}

func (s *store) credentials(rueidis.AuthCredentialsContext) (c rueidis.AuthCredentials, err error) {
	c.Username = s.config.Username
	if s.config.Password != nil {
		c.Password, err = s.config.Password()
	}
	return c, err
}

func (s *store) dial(ctx context.Context, address string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	if s.config.TLS == nil {
		return dialer.DialContext(ctx, network, address)
	}
	return (&tls.Dialer{NetDialer: dialer, Config: s.config.TLS}).DialContext(ctx, network, address)
}

// bucketKey and placesKey are the keys of a rule. The tenant in braces makes
// them one slot.
func (s *store) bucketKey(tenant string, r *Rule) string {
	return s.config.Prefix + "{" + tenant + "}:" + r.Scope + ":" + r.Key
}

func (s *store) placesKey(tenant string, r *Rule) string {
	return s.bucketKey(tenant, r) + ":places"
}

// A question is what the script is asked.
type question struct {
	mode, now, member string
	lease             time.Duration
	keys, args        []string
}

// ask puts together the question about a set's rules. What is known of them is
// as of now.
func (s *store) ask(mode string, set *Set, cost int64, id uint64) (q question, claims []claim, sent int64) {
	claims = s.local.claims(make([]claim, 0, 4), set.Rules, 1)
	known, mine, sent := s.local.known(claims)
	q = question{mode: mode, member: s.member(id), lease: set.Lease, keys: make([]string, 0, 2*len(claims)), args: make([]string, 0, 6*len(claims))}
	for i := range claims {
		c := &claims[i]
		q.keys = append(q.keys, s.bucketKey(set.Tenant, c.rule), s.placesKey(set.Tenant, c.rule))
		need := int64(0)
		if c.limited {
			need = product(cost, c.pace.interval)
		}
		shadow := "0"
		if c.rule.Shadow {
			shadow = "1"
		}
		q.args = append(q.args, span(need), span(c.pace.capacity), span(known[i]),
			strconv.FormatInt(c.most, 10), strconv.FormatInt(mine[i], 10), shadow)
	}
	return q, claims, sent
}

// span writes nanoseconds as the script reads them.
func span(ns int64) string { return fmt.Sprintf("%04d", ns) }

// An opinion is what the script says of one rule.
type opinion struct {
	debt, count int64
	refuses     bool
}

// exec asks Redis.
func (s *store) exec(ctx context.Context, client rueidis.Client, q question) (allowed bool, opinions []opinion, err error) {
	args := append([]string{q.mode, q.now, q.member, strconv.FormatInt(q.lease.Milliseconds(), 10)}, q.args...)
	reply, err := script.Exec(ctx, client, q.keys, args).ToArray()
	if err != nil {
		return false, nil, err
	}
	if len(reply) != 1+3*len(q.keys)/2 {
		return false, nil, errors.New("ask Redis: the answer has another number of values")
	}
	verdict, err := reply[0].AsInt64()
	for i := 1; i < len(reply) && err == nil; i += 3 {
		var o opinion
		var refuses int64
		var text string
		text, err = reply[i].ToString()
		if err == nil {
			o.debt, err = strconv.ParseInt(text, 10, 64)
		}
		if err == nil {
			o.count, err = reply[i+1].AsInt64()
		}
		if err == nil {
			refuses, err = reply[i+2].AsInt64()
		}
		o.refuses = refuses != 0
		opinions = append(opinions, o)
	}
	return verdict != 0, opinions, err
}

// An answered is an answer, or why there is none.
type answered struct {
	verdict Verdict
	err     error
}

// spend asks Redis for a decision, for at most the budget. An answer that comes
// later is not lost: what it charged is remembered, and its places given back.
func (s *store) spend(set *Set) (Verdict, error) {
	var mu sync.Mutex
	late := false
	answer := make(chan answered, 1)
	go func() {
		v, err := s.decide(set)
		mu.Lock()
		defer mu.Unlock()
		if late && err == nil && v.Held != 0 {
			s.local.Release(set.Rules, v.Held)
			s.release(v.ID)
		}
		answer <- answered{v, err}
	}()
	timer := time.NewTimer(s.config.Budget)
	defer timer.Stop()
	select {
	case a := <-answer:
		return a.verdict, a.err
	case <-timer.C:
	}
	mu.Lock()
	defer mu.Unlock()
	select {
	case a := <-answer: // in the last moment
		return a.verdict, a.err
	default:
		late = true
		return Verdict{}, fmt.Errorf("ask Redis: no answer within %v", s.config.Budget)
	}
}

// decide asks Redis for a decision, and remembers what it says.
func (s *store) decide(set *Set) (Verdict, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := s.reach()
	if err != nil {
		return Verdict{}, err
	}
	id := s.next.Add(1)
	cost := max(1, set.Cost)
	q, claims, sent := s.ask("spend", set, cost, id)
	allowed, opinions, err := s.exec(ctx, client, q)
	if err != nil {
		s.disown(id, set)
		return Verdict{}, err
	}
	v := Verdict{Decision: judge(claims, opinions, cost, allowed)}
	s.local.learn(claims, opinions, sent, allowed)
	if v.Held != 0 {
		v.ID = id
		s.remember(id, set, v.Held)
	}
	return v, nil
}

// judge has the claims say what Redis has decided. Now is 0.
func judge(claims []claim, opinions []opinion, cost int64, allowed bool) Decision {
	for i := range claims {
		c, o := &claims[i], opinions[i]
		if c.limited {
			c.next, c.wait = c.pace.spend(0, o.debt, cost)
		}
		c.full = c.most != 0 && o.count >= c.most
	}
	return decide(claims, 0, allowed)
}

// peek asks Redis where the rules stand, for at most the budget.
func (s *store) peek(set *Set) ([]Level, error) {
	client, err := s.reach()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Budget)
	defer cancel()
	q, claims, _ := s.ask("peek", set, 0, 0)
	_, opinions, err := s.exec(ctx, client, q)
	if err != nil {
		return nil, err
	}
	levels := make([]Level, len(claims))
	for i, o := range opinions {
		levels[i] = Level{Rule: set.Rules[i], InFlight: o.count, ResetAfter: time.Duration(o.debt)}
		if claims[i].limited {
			levels[i].Remaining = claims[i].pace.remaining(0, o.debt)
		}
	}
	return levels, nil
}
