package sandbox

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A Rule says which requests a fault befalls.
type Rule struct {
	// Fault is what befalls them. The zero Fault lets them pass.
	Fault Fault
	// On is a procedure, TokenEndpoint, or empty for every call of the API,
	// those that lead nowhere included.
	On string
	// If narrows On; nil means every one. It must not read the body, and be
	// quick: requests wait in line for it.
	If func(*http.Request) bool
	// After is how many requests the rule leaves alone first.
	After int
	// Times is how many requests the fault befalls; 0 means all until Heal.
	Times int
}

// Chaos is what goes wrong by chance: of the API's calls, such a part. The
// n-th call of two runs with the same seed and Chaos meets the same.
type Chaos struct {
	// Unauthorized is the part that is answered 401 without acting.
	Unauthorized float64
	// Slow is the part whose answer is held back for Delay, 1 s if 0.
	Slow  float64
	Delay time.Duration
	// RateLimited is the part that is answered 429, Retry-After 1, without acting.
	RateLimited float64
	// Reset is the part that acts and then is reset.
	Reset float64
}

// DefaultChaos is enough to find a client that takes a good day for granted:
// 5% early 401, 5% slow, 2% 429, 1% reset after acting.
func DefaultChaos() Chaos {
	return Chaos{Unauthorized: 0.05, Slow: 0.05, RateLimited: 0.02, Reset: 0.01}
}

// check refuses parts that are none. They are of one whole.
func (c Chaos) check() error {
	sum := 0.0
	for _, part := range []float64{c.Unauthorized, c.Slow, c.RateLimited, c.Reset} {
		if !(part >= 0 && part <= 1) {
			return fmt.Errorf("probability %v is not between 0 and 1", part)
		}
		sum += part
	}
	if sum > 1+1e-9 {
		return fmt.Errorf("the probabilities add up to %v, which is more than 1", sum)
	}
	return nil
}

// at is the fault for a number in [0,1); the zero Fault if there is none.
func (c Chaos) at(draw float64) Fault {
	delay := c.Delay
	if delay == 0 {
		delay = time.Second
	}
	for _, choice := range []struct {
		part  float64
		fault func() Fault
	}{
		{c.Unauthorized, Unauthorized},
		{c.Slow, func() Fault { return Slow(delay) }},
		{c.RateLimited, func() Fault { return RateLimited("1") }},
		{c.Reset, func() Fault { return Reset().AfterActing() }},
	} {
		if draw < choice.part {
			return choice.fault()
		}
		draw -= choice.part
	}
	return Fault{}
}

// A script decides what befalls each request.
type script struct {
	mu     sync.Mutex // guards what follows
	rules  []*Rule    // without those used up
	chaos  Chaos
	chance *rand.Rand
}

// newScript returns a script without rules.
func newScript(seed uint64, chaos Chaos) *script {
	return &script{chaos: chaos, chance: rand.New(rand.NewPCG(seed, seed))}
}

// Inject adds rules, after those that are there. The first rule that is for a
// request and is not used up decides; where none is, Chaos does.
func (s *Sandbox) Inject(rules ...Rule) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	for _, rule := range rules {
		s.faults.rules = append(s.faults.rules, &rule)
	}
}

// Heal takes back every rule and all chaos. Requests that are held or stalled
// already remain so.
func (s *Sandbox) Heal() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.rules, s.faults.chaos = nil, Chaos{}
}

// SetChaos replaces the Chaos of Config. The error is that of a probability
// out of range.
func (s *Sandbox) SetChaos(chaos Chaos) error {
	if err := chaos.check(); err != nil {
		return fmt.Errorf("set chaos: %w", err)
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.chaos = chaos
	return nil
}

// next is the fault for a request; benign if there is none. A request that a
// rule decides draws no number, so that rules do not disturb the chaos.
func (s *script) next(r *http.Request, procedure string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, rule := range s.rules {
		if !rule.covers(r, procedure) {
			continue
		}
		if rule.After > 0 {
			rule.After--
			continue
		}
		if rule.Times > 0 {
			if rule.Times--; rule.Times == 0 {
				s.rules = slices.Delete(s.rules, i, i+1)
			}
		}
		return rule.Fault.orBenign()
	}
	if procedure == TokenEndpoint || s.chaos == (Chaos{}) {
		return benign
	}
	return s.chaos.at(s.chance.Float64()).orBenign()
}

// covers says whether a rule is for a request.
func (r *Rule) covers(request *http.Request, procedure string) bool {
	if r.On == "" && procedure == TokenEndpoint || r.On != "" && r.On != procedure {
		return false
	}
	return r.If == nil || r.If(request)
}

// orBenign is f, or benign for the zero Fault.
func (f Fault) orBenign() Fault {
	if f.name == "" {
		return benign
	}
	return f
}
