package gate

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

var (
	// errNoSlot says that the slots are taken, and the line is too long or was
	// too slow.
	errNoSlot = errors.New("no slot became free")
	// errRestart says that C1 has asked for a rest meanwhile.
	errRestart = errors.New("C1 has asked for a rest")
)

// rampStep is the time in which, after a rest, the calls that each team may have
// under way double, if answers do not make them more before. It keeps a call
// that takes long from holding the others up.
const rampStep = time.Second

// slots bound the calls under way. Each team has a share that no other can
// take; what is spare goes to whoever comes first. A call that finds none waits
// in its team's own line, so that nobody stands behind another team.
//
// After a rest that C1 has asked for they are not had all at once: each team
// begins with one, and has one more with each answer of C1's.
type slots struct {
	mu      sync.Mutex // guards what follows
	spare   int        // of all teams together
	lent    int        // of the spare ones
	inUse   int
	waiting int
	teams   map[string]*line
	turns   []*line // in the order of their turns at what is spare

	epoch  uint64    // of the throttle, which names the last rest
	window int       // of each team, of slots taken since the rest; 0 is no bound
	opened time.Time // the end of the rest
}

// A line is a team's calls: those under way, and those that wait, in order.
type line struct {
	share   int
	inUse   int
	fresh   int       // of those in use, had in this epoch
	waiting list.List // of *place
	moved   time.Time // when the team last got a slot, or gave one back
}

// A place is one call's in a line.
type place struct {
	ready chan struct{} // closed when it is settled, and what follows is set
	epoch uint64        // in which the slot was had
	err   error         // why there is none; nil if it was had
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
	s.handOn()
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

// take takes a slot for a team, waiting for it if it must, and returns the epoch
// in which it was had. The error is errNoSlot, errRestart or the context's, and
// no slot is held then.
func (s *slots) take(ctx context.Context, team string) (epoch uint64, err error) {
	s.mu.Lock()
	l := s.line(team)
	s.handOn() // what time has added to the windows
	if s.lend(l) {
		defer s.mu.Unlock()
		return s.epoch, nil
	}
	if l.stands() || l.waiting.Len() >= l.share+s.spare { // as many may wait as may be under way
		s.mu.Unlock()
		return 0, errNoSlot
	}
	p := &place{ready: make(chan struct{})}
	at := l.waiting.PushBack(p)
	s.waiting++
	s.mu.Unlock()
	return s.wait(ctx, l, at, p)
}

// wait waits at a place in a line until it is settled, for as long as the line
// moves.
func (s *slots) wait(ctx context.Context, l *line, at *list.Element, p *place) (epoch uint64, err error) {
	begun := time.Now()
	look := time.NewTicker(patience)
	defer look.Stop()
	for {
		err := errNoSlot
		select {
		case <-p.ready:
			return p.epoch, p.err
		case <-look.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
		s.mu.Lock()
		s.handOn() // as in take
		select {
		case <-p.ready: // meanwhile
			s.mu.Unlock()
			return p.epoch, p.err
		default:
		}
		if err != errNoSlot || l.stands() || time.Since(begun) >= maxWait {
			l.waiting.Remove(at)
			s.waiting--
			s.mu.Unlock()
			return 0, err
		}
		s.mu.Unlock()
	}
}

// lend gives a team a slot if there is one for it. Called with mu held.
func (s *slots) lend(l *line) bool {
	if s.window > 0 && l.fresh >= s.room() {
		return false
	}
	if l.inUse >= l.share {
		if s.lent >= s.spare {
			return false
		}
		s.lent++
	}
	l.moved = time.Now()
	l.inUse++
	l.fresh++
	s.inUse++
	return true
}

// room is how many slots a team may have had since the rest, and not given back.
// When that is as many as there are, the bound ends. Called with mu held.
func (s *slots) room() int {
	steps := max(0, time.Since(s.opened)) / rampStep
	room := s.window - 1 + 1<<min(steps, 30)
	all := s.spare
	for _, l := range s.turns {
		all += l.share
	}
	if room >= all {
		s.window = 0
	}
	return room
}

// restart begins an epoch: those who wait are sent away, and from when it is
// opened each team begins with one slot.
func (s *slots) restart(epoch uint64, opened time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.window, s.opened = epoch, 1, opened
	for _, l := range s.turns {
		l.fresh = 0
		for at := l.waiting.Front(); at != nil; at = l.waiting.Front() {
			l.settle(at, s.epoch, errRestart)
		}
	}
	s.waiting = 0
}

// settle removes a place from the line, and tells its call what came of it.
// Called with mu held.
func (l *line) settle(at *list.Element, epoch uint64, err error) {
	p := l.waiting.Remove(at).(*place)
	p.epoch, p.err = epoch, err
	close(p.ready)
}

// widen gives each team one more slot of those that are had anew.
func (s *slots) widen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.window > 0 {
		s.window++
		s.handOn()
	}
}

// release gives a slot back that was had in an epoch, and hands it on: no call
// waits while there is a slot for it.
func (s *slots) release(team string, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.line(team)
	if l.inUse > l.share {
		s.lent--
	}
	if epoch == s.epoch {
		l.fresh--
	}
	l.moved = time.Now()
	l.inUse--
	s.inUse--
	s.handOn()
}

// handOn gives what slots there are to the first in line of the teams, in their
// turns. Called with mu held.
func (s *slots) handOn() {
	for s.waiting > 0 && s.handOne() {
	}
}

// handOne gives a slot to the first in line of the team whose turn it is, if
// there is one. Called with mu held.
func (s *slots) handOne() bool {
	for i, l := range s.turns {
		first := l.waiting.Front()
		if first == nil || !s.lend(l) {
			continue
		}
		l.settle(first, s.epoch, nil)
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
