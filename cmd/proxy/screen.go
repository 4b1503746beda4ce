package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// How often what was written is shown, and after how long, how far a search is.
const (
	showEvery     = 100 * time.Millisecond
	progressAfter = 500 * time.Millisecond
)

// A screen is the output of a search. On a terminal it also shows on stderr how
// far a long search is, without getting in the way of the output.
type screen struct {
	search *audit.Search
	began  time.Time
	done   chan struct{}
	ended  sync.WaitGroup

	mu sync.Mutex
	// out is what is written to stdout, guarded by mu.
	out *bufio.Writer
	// progress is stderr; nil if that is no terminal.
	progress io.Writer
	drawn    bool // guarded by mu: the progress can be seen
}

// newScreen returns a screen that must be closed.
func newScreen(t *terminal, search *audit.Search) *screen {
	s := &screen{search: search, began: time.Now(), done: make(chan struct{}), out: bufio.NewWriterSize(t.out, 64<<10)}
	if isTerminal(t.err) && os.Getenv("TERM") != "dumb" {
		s.progress = t.err
	}
	s.ended.Go(s.run)
	return s
}

func (s *screen) run() {
	tick := time.NewTicker(showEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.show()
		case <-s.done:
			return
		}
	}
}

// show shows what was written, and below it how far the search is.
func (s *screen) show() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out.Buffered() > 0 {
		s.hide()
		_ = s.out.Flush() // the next write returns the error again
	}
	if s.progress == nil || time.Since(s.began) < progressAfter {
		return
	}
	stats := s.search.Stats()
	fmt.Fprintf(s.progress, "\r\x1b[K%d of %d MiB searched, %d records read", stats.Bytes>>20, stats.Total>>20, stats.Records)
	s.drawn = true
}

// hide wipes the progress. s.mu is held.
func (s *screen) hide() {
	if s.drawn {
		fmt.Fprint(s.progress, "\r\x1b[K")
		s.drawn = false
	}
}

// Write writes to stdout, by and by.
func (s *screen) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out.Available() < len(data) {
		s.hide()
	}
	return s.out.Write(data)
}

// close shows the rest, and returns what has gone wrong with the output.
func (s *screen) close() error {
	close(s.done)
	s.ended.Wait()
	s.hide()
	return s.out.Flush()
}

// isTerminal tells whether w is one.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
