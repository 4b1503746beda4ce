package ratelimit

import (
	"math/bits"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// The names of the fields of draft-ietf-httpapi-ratelimit-headers-11 (May
// 2026), as net/http canonicalises them.
const (
	fieldName  = "Ratelimit"
	policyName = "Ratelimit-Policy"
)

// inFlight ends the name of a policy that is about the calls at once.
const inFlight = "-in-flight"

// maxInteger is the largest Integer of a structured field (RFC 9651, section
// 3.3.1).
const maxInteger = 999_999_999_999_999

// Policy returns the value of the RateLimit-Policy field for a set of rules,
// such as `"caller";q=10;w=1, "team";q=100;w=1;c1proxy-burst=200`. It is ""
// if nothing is limited. A set of rules has one value for good: make it once.
//
// The draft's window w is a whole number of seconds, at least 1, and q is what
// it allows: Per rounded up to a second, and the units that come back in that
// time, rounded down. Over a long time q/w is therefore at most Rate/Per. The
// draft has no word for a burst; where it differs from q it is said in a
// parameter of our own. A cap on the calls at once is an item by itself, whose
// unit is the draft's "concurrent-requests". A rule in shadow is not stated.
func Policy(rules []Rule) string {
	var b []byte
	for i := range rules {
		if rules[i].Shadow {
			continue
		}
		if most := rules[i].Most; most != 0 {
			b = appendItem(b, rules[i].Scope+inFlight)
			b = appendParameter(b, ";q=", most)
			b = append(b, `;qu="concurrent-requests"`...)
		}
		limit := rules[i].Limit
		if limit.Rate == 0 {
			continue
		}
		quota, window := limit.window()
		b = appendItem(b, rules[i].Scope)
		b = appendParameter(b, ";q=", quota)
		b = appendParameter(b, ";w=", window)
		if limit.Burst != quota {
			b = appendParameter(b, ";c1proxy-burst=", limit.Burst)
		}
	}
	return string(b)
}

// window returns l as a quota per whole seconds. A Limit that is not sound
// allows nothing.
func (l Limit) window() (quota, seconds int64) {
	if l.pace().capacity == 0 {
		return 0, 1
	}
	seconds = ceilSeconds(l.Per)
	if l.Per%time.Second == 0 {
		return l.Rate, seconds
	}
	// Rate * seconds / Per, whose product needs 128 bits; the quotient needs
	// 64 because a sub-second Per makes seconds 1 and is cut below anyway.
	hi, lo := bits.Mul64(uint64(l.Rate), uint64(seconds)*uint64(time.Second))
	if hi >= uint64(l.Per) {
		return maxInteger, seconds
	}
	q, _ := bits.Div64(hi, lo, uint64(l.Per))
	return int64(min(q, maxInteger)), seconds
}

// Field returns the value of the RateLimit field, such as `"team";r=50;t=1`,
// for d.Rule alone, as the draft's appendix B.1.2 allows. It is "" if nothing
// was limited.
//
// The draft's r is what remains. Its t is a number of whole seconds, rounded
// up, in which no more than r can be used: for a refusal the time to wait,
// which Retry-After must not fall short of (section 6); with nothing left, the
// time until one unit is back; else the time until the bucket is full.
func (d Decision) Field() string {
	if d.Full {
		b := appendItem(nil, d.Rule.Scope+inFlight)
		return string(appendParameter(append(b, ";r=0"...), ";t=", ceilSeconds(d.RetryAfter)))
	}
	if d.Rule.Limit.Rate == 0 {
		return ""
	}
	var space [64]byte
	b := appendItem(space[:0], d.Rule.Scope)
	b = appendParameter(b, ";r=", d.Remaining)
	b = appendParameter(b, ";t=", ceilSeconds(d.window()))
	return string(b)
}

// window is the effective window of Field.
func (d Decision) window() time.Duration {
	switch {
	case !d.Allowed:
		return d.RetryAfter
	case d.Remaining == 0:
		p := d.Rule.Limit.pace()
		return d.ResetAfter - time.Duration(p.capacity-p.interval)
	default:
		return d.ResetAfter
	}
}

// SetHeader sets the RateLimit field, and RateLimit-Policy to the value that
// Policy gave, in a response's header. It sets nothing if nothing was limited.
func (d Decision) SetHeader(h http.Header, policy string) {
	if field := d.Field(); field != "" {
		h[fieldName] = []string{field}
		h[policyName] = []string{policy}
	}
}

// Fault returns a refusal as the fault that the caller sees, and nil for an
// allowed call. The bucket's key is not in it.
func (d Decision) Fault() *fault.Fault {
	if d.Allowed {
		return nil
	}
	limit := d.Rule.Limit
	var f *fault.Fault
	switch {
	case d.Full:
		f = fault.New(connect.CodeResourceExhausted, fault.RateLimited,
			"the %s has %d calls under way, as many as it may: wait until one is answered", d.Rule.Scope, d.Rule.Most)
	case d.RetryAfter == never:
		f = fault.New(connect.CodeResourceExhausted, fault.RateLimited,
			"the call costs more than the %s's limit of %d at once: it will never pass", d.Rule.Scope, limit.Burst)
	default:
		f = fault.New(connect.CodeResourceExhausted, fault.RateLimited,
			"the %s's limit of %d calls per %v is used up: wait %s s, then go on more slowly",
			d.Rule.Scope, limit.Rate, limit.Per, fault.Seconds(d.RetryAfter))
	}
	f.RetryAfter = d.RetryAfter
	return f.With("rule", d.Rule.Scope)
}

// appendItem begins one item of a List: a separator and a String, in which
// only printable ASCII can stand (RFC 9651, section 3.3.3).
func appendItem(b []byte, name string) []byte {
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	b = append(b, '"')
	for _, c := range []byte(name) {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= ' ' && c <= '~':
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// appendParameter adds a parameter with an Integer that is not negative.
func appendParameter(b []byte, name string, value int64) []byte {
	b = append(b, name...)
	return strconv.AppendInt(b, min(max(0, value), maxInteger), 10)
}

// ceilSeconds rounds d up to whole seconds.
func ceilSeconds(d time.Duration) int64 {
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return seconds
}
