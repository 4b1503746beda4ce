package ratelimit

import "time"

// never is the RetryAfter of a call that costs more than the bucket ever
// holds. No wait helps it, yet it must not come back at once.
const never = 24 * time.Hour

// busyWait is the RetryAfter of a call that found as many calls under way as
// there may be. Nobody knows when one of them ends.
const busyWait = time.Second

// MaxRules is how many rules one call can be held to.
const MaxRules = 64

// A Rule is one limit that a call is held to: a rate, a cap on the calls at
// once, or both.
type Rule struct {
	// Scope is whose limit this is: "caller", "team", "tenant", or the name of a
	// limit on some methods. It is also the policy's name in the RateLimit fields.
	Scope string
	// Key names the bucket, uniquely within its scope, such as
	// "payments/sync-bot".
	Key string
	// Limit is the bucket's limit. It may change between two calls: a bucket
	// that owes more than the new limit can hold counts as just emptied. The
	// zero Limit never refuses.
	Limit Limit
	// Most is how many calls may be under way at once. 0 means no cap; below 0
	// every call is refused.
	Most int64
	// Dearest is the highest cost of a call that the rule is asked for; below 1
	// it counts as 1. A replica's share of the limit is never smaller than that:
	// see Limit.share.
	Dearest int64
	// Shadow has the rule refuse nothing: what it would have refused is told in
	// Decision.Shadowed, and is not charged to it.
	Shadow bool
}

// A Decision says whether a call may pass, and what the caller should know.
type Decision struct {
	// Allowed is true if the call was charged to every rule, but for those in
	// Shadowed, and false if it was charged to none.
	Allowed bool
	// Full is true if the call is refused because Rule has Most calls under way.
	Full bool
	// Rule is the rule with the longest wait if the call is refused, and the
	// one with the least left if it is allowed. It is the zero Rule if there
	// was no rate to limit. A rule in shadow is never told.
	Rule Rule
	// Remaining is how many units Rule has left, after this call.
	Remaining int64
	// RetryAfter is how long the same call has to wait, if nobody else spends
	// meanwhile. It is 0 for an allowed call. It is 24 hours for one that
	// costs more than the burst, which stays refused, and 1 s for one that has
	// to wait for another to end.
	RetryAfter time.Duration
	// ResetAfter is how long it takes Rule to be full again.
	ResetAfter time.Duration
	// Shadowed has bit i set if the rule i, in shadow, would have refused the
	// call.
	Shadowed uint64
	// Held has bit i set if the call has taken a place of rule i, which Release
	// gives back.
	Held uint64
}

// A Level is where one rule stands.
type Level struct {
	Rule Rule
	// Remaining is how many units could be spent at once.
	Remaining int64
	// ResetAfter is how long it takes the bucket to be full again.
	ResetAfter time.Duration
	// InFlight is how many calls are under way. It is counted only where there
	// is a cap.
	InFlight int64
}
