package ratelimit

// slots is how many buckets a group holds: with the floor they fill 248 of the
// 256 bytes, four cache lines.
const slots = 15

// A table keeps the theoretical arrival times of a fixed number of buckets,
// and never forgets in a caller's favour.
//
// A bucket has one group, chosen by its hash. A slot whose tat has passed
// stands for a full bucket, which is what an unknown bucket is: such slots are
// free, and nothing ever sweeps them. When a group has no free slot, the
// bucket closest to full makes room, and the group remembers how far from full
// it was: no bucket that the group does not hold is ever taken to be fuller
// than its floor. So a bucket pushed out by a flood comes back with at least
// the debt that it left with. A flood costs its neighbours some of their
// burst, and gains nobody anything.
//
// Two keys whose 63-bit hashes are equal share a bucket. The seed is random in
// each process, so that nobody can choose such keys.
//
// A table is not safe for concurrent use.
type table struct {
	groups []group
	// evicted counts the buckets that made room before they were full.
	evicted uint64
}

// A group is the place of all buckets whose hashes fall into it.
type group struct {
	// floor is the latest tat that was ever pushed out.
	floor int64
	hash  [slots]uint64 // 0 in a slot that was never used
	tat   [slots]int64
	_     int64
}

// newTable has two slots for each bucket, since hashes spread unevenly: with
// as many live buckets as it is made for, one group in two hundred overflows.
func newTable(buckets int) table {
	return table{groups: make([]group, max(1, (2*buckets+slots-1)/slots))}
}

// group returns the one group that may hold the bucket of a hash.
func (t *table) group(hash uint64) *group {
	// The high 32 bits, scaled to the number of groups: no division.
	return &t.groups[(hash>>32)*uint64(len(t.groups))>>32]
}

// find returns the stored time of a bucket, which may be changed in place. If
// the group does not hold the bucket, stored is nil and the bucket's time is
// taken to be the floor, which has passed unless the group has overflowed.
func (t *table) find(hash uint64) (stored *int64, floor int64) {
	g := t.group(hash)
	for i := range g.hash {
		if g.hash[i] == hash {
			return &g.tat[i], 0
		}
	}
	return nil, g.floor
}

// store sets the time of a bucket. It takes the bucket's own slot, or else the
// one with the earliest tat: a full bucket's if there is one.
func (t *table) store(hash uint64, now, tat int64) {
	g := t.group(hash)
	victim := 0
	for i := range g.hash {
		if g.hash[i] == hash {
			g.tat[i] = tat
			return
		}
		if g.tat[i] < g.tat[victim] {
			victim = i
		}
	}
	if g.tat[victim] > now {
		g.floor = max(g.floor, g.tat[victim])
		t.evicted++
	}
	g.hash[victim], g.tat[victim] = hash, tat
}
