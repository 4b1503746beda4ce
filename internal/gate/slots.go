package gate

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// errNoSlot says that the slots are taken, and the line is too long or was too
// slow.
var errNoSlot = errors.New("no slot became free")

// slots bound the calls under way. Each team has a share that no other can
// take; what is spare goes to whoever comes first. A call that finds none waits
// in its team's own line, so that nobody stands behind another team.
type slots struct {
	mu      sync.Mutex // guards what follows
	spare   int        // of all teams together
	lent    int        // of the spare ones
	inUse   int
	waiting int
	teams   map[string]*line
	turns   []*line // in the order of their turns at what is spare
}

// A line is a team's calls: those under way, and those that wait, in order.
type line struct {
	share   int
	inUse   int
	waiting list.List // of chan struct{}, closed when the slot is had
	moved   time.Time // when the team last got a slot, or gave one back
}

// stands says that no slot of the team's has changed hands for a while: that
// waiting for one is of no use.
func (l *line) stands() bool { return time.Since(l.moved) >= patience }

func newSlots(n int, teams []string) *slots {
	s := &slots{teams: make(map[string]*line)}
	s.resize(n, teams)
	return s
}

// resize makes the number of slots and the teams others. Calls under way keep
// theirs, and those that wait their places: if there are too many now, it is
// fewer as they end. A team that is not named any more has no share.
func (s *slots) resize(n int, teams []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	share := 0
	s.spare = n
	if len(teams) > 0 {
		share = max(1, n/2/len(teams))
		s.spare = max(0, n-share*len(teams))
	}
	for name, l := range s.teams {
		l.share = 0
		if l.inUse == 0 && l.waiting.Len() == 0 && !slices.Contains(teams, name) {
			delete(s.teams, name)
			s.turns = slices.DeleteFunc(s.turns, func(other *line) bool { return other == l })
		}
	}
	for _, team := range teams {
		s.line(team).share = share
	}
	s.lent = 0
	for _, l := range s.teams {
		s.lent += max(0, l.inUse-l.share)
	}
	for s.waiting > 0 && s.handOn() {
	}
}

// line is a team's line. One that was not named has no share. Called with mu
// held.
func (s *slots) line(team string) *line {
	if l := s.teams[team]; l != nil {
		return l
	}
	l := new(line)
	s.teams[team] = l
	s.turns = append(s.turns, l)
	return l
}

// take takes a slot for a team, waiting for it if it must. The error is
// errNoSlot or the context's, and no slot is held then.
func (s *slots) take(ctx context.Context, team string) error {
	s.mu.Lock()
	l := s.line(team)
	if s.lend(l) {
		s.mu.Unlock()
		return nil
	}
	if l.stands() || l.waiting.Len() >= l.share+s.spare { // as many may wait as may be under way
		s.mu.Unlock()
		return errNoSlot
	}
	ready := make(chan struct{})
	place := l.waiting.PushBack(ready)
	s.waiting++
	s.mu.Unlock()
	return s.wait(ctx, l, place, ready)
}

// wait waits at a place in a line until ready is closed, for as long as the line
// moves.
func (s *slots) wait(ctx context.Context, l *line, place *list.Element, ready <-chan struct{}) error {
	begun := time.Now()
	look := time.NewTicker(patience)
	defer look.Stop()
	for {
		err := errNoSlot
		select {
		case <-ready:
			return nil
		case <-look.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
		s.mu.Lock()
		select {
		case <-ready: // meanwhile
			s.mu.Unlock()
			return nil
		default:
		}
		if err != errNoSlot || l.stands() || time.Since(begun) >= maxWait {
			l.waiting.Remove(place)
			s.waiting--
			s.mu.Unlock()
			return err
		}
		s.mu.Unlock()
	}
}

// lend gives a team a slot if there is one for it. Called with mu held.
func (s *slots) lend(l *line) bool {
	if l.inUse >= l.share {
		if s.lent >= s.spare {
			return false
		}
		s.lent++
	}
	l.moved = time.Now()
	l.inUse++
	s.inUse++
	return true
}

// release gives a slot back, and hands it on: no call waits while there is a
// slot for it.
func (s *slots) release(team string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.line(team)
	if l.inUse > l.share {
		s.lent--
	}
	l.moved = time.Now()
	l.inUse--
	s.inUse--
	if s.waiting > 0 {
		s.handOn()
	}
}

// handOn gives a slot to the first in line of the team whose turn it is, and
// says whether there was one to give. Called with mu held.
func (s *slots) handOn() bool {
	for i, l := range s.turns {
		first := l.waiting.Front()
		if first == nil || !s.lend(l) {
			continue
		}
		close(l.waiting.Remove(first).(chan struct{}))
		s.waiting--
		s.turns = append(append(s.turns[:i:i], s.turns[i+1:]...), l)
		return true
	}
	return false
}

func (s *slots) counts() (inUse, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inUse, s.waiting
}
