package gate

import (
	"fmt"
	"time"
)

// Touch has a team's line move, without a slot for the one who waits.
func Touch(g *Gate, team string) {
	g.slots.mu.Lock()
	defer g.slots.mu.Unlock()
	g.slots.line(team).moved = time.Now()
}

// Invariant says what is wrong with a Gate's slots; "" if nothing is.
func Invariant(g *Gate) string {
	s := g.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	inUse, lent, waiting := 0, 0, 0
	for _, l := range s.turns {
		inUse += l.inUse
		lent += max(0, l.inUse-l.share)
		waiting += l.waiting.Len()
		if l.fresh < 0 || l.fresh > l.inUse {
			return fmt.Sprintf("%d of %d slots are had anew", l.fresh, l.inUse)
		}
		bound := s.window > 0 && l.fresh >= s.room()
		if l.waiting.Len() > 0 && !bound && (l.inUse < l.share || s.lent < s.spare) {
			return fmt.Sprintf("a call waits although there is a slot for it: %d in use of a share of %d", l.inUse, l.share)
		}
	}
	if inUse != s.inUse || lent != s.lent || waiting != s.waiting || s.lent > s.spare {
		return fmt.Sprintf("counted %d in use, %d lent, %d waiting; want %d, %d of %d, %d", s.inUse, s.lent, s.waiting, inUse, lent, s.spare, waiting)
	}
	return ""
}
