package proxy

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// This file is about the policy's two looks at a call: at its method, before
// anything is decoded, and where that does not settle it, at its request.

// permit asks the policy, and notes its decision. Without a message it lets pass
// what may still be allowed, and notes that it is pending.
func (b *binding) permit(c *call, message proto.Message, unseen string) (policy.Decision, error) {
	d, err := c.edition.policy.Allow(policy.Call{Who: c.who, Method: b.route.Method(), Reason: c.reason, Message: message, Unseen: unseen})
	if err != nil {
		return d, err
	}
	c.rule, c.pending, c.shadow = d.Rule, d.Pending, d.Shadow
	if d.Shadow != "" {
		b.gateway.shadows.tell(b.gateway, c)
	}
	return d, nil
}

// permitRequest is the policy's second look, at the request. The path comes
// first, on every door, so that all of them refuse a call for the same reason;
// and what a record says of a refused request is what it says of any other.
//
// On C1's own paths the request that a condition was shown is what is sent,
// written anew: two readers of one body might differ, and a caller must not show
// the condition one thing and C1 another.
func (b *binding) permitRequest(c *call, in *inbound) error {
	_, values, err := b.route.Expand(in.message.ProtoReflect())
	c.notePath(values)
	c.noteRequest(in.message)
	if err != nil {
		return err
	}
	d, err := b.permit(c, in.message, unseen(c, in))
	in.remade = d.Read && in.raw != nil
	return err
}

// unseen names what goes to C1 and is not in the message: on C1's own paths,
// fields and enum values that the mirror does not have. Elsewhere they are not
// sent.
func unseen(c *call, in *inbound) string {
	if in.raw == nil {
		return ""
	}
	for _, kind := range []transcode.Kind{transcode.UnknownField, transcode.UnknownEnum} {
		if c.strays.Count(kind) > 0 {
			return c.strays.First(kind)
		}
	}
	return ""
}

// shadowPeriod is how often the log tells of one rule in shadow.
const shadowPeriod = time.Minute

// shadows remembers, by rule, when the log last told of it. The zero shadows is
// ready to use, from any goroutine.
type shadows struct {
	mu   sync.Mutex
	told map[string]time.Time
}

// tell counts a call that a rule in shadow has let through, and logs it once in a
// while: the records have each.
func (s *shadows) tell(g *gateway, c *call) {
	g.metrics.Shadowed(c.rule)
	if s.due(c.rule, time.Now()) {
		g.logger.Warn("a rule in shadow lets through what it would refuse; more within a minute are in the audit alone",
			append(c.names(), "rule", c.rule, "caller", c.who.Team+"/"+c.who.Caller, "why", c.shadow)...)
	}
}

func (s *shadows) due(rule string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.told[rule]) < shadowPeriod {
		return false
	}
	if s.told == nil {
		s.told = make(map[string]time.Time)
	}
	s.told[rule] = now
	return true
}
