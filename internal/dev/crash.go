package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type crashVerb struct {
	Cycles int    `default:"100" help:"How often the gateway is killed under load."`
	Seed   uint64 `help:"Repeats what a run has chosen; 0 chooses anew."`
	Short  bool   `help:"As check does it: 20 kills, and the first faults of each kind."`
	Only   string `enum:"all,kill,fault,disk" default:"all" help:"Do only one part: kill, fault or disk."`
}

// Run holds the real program to three promises, whatever befalls it: C1 is
// asked for nothing without an earlier intent (P1), no call is answered without
// its one final record (P2), and the log that is left behind is never accused
// (P3). The program is killed under load at random moments, its disk's system
// calls fail one after the other, and its disk fills up.
//
// A miss or a false alarm is an error, and leaves the directory for a look.
func (v *crashVerb) Run(ctx context.Context) error {
	if v.Seed == 0 {
		v.Seed = rand.Uint64N(1_000_000) + 1
	}
	if v.Short {
		v.Cycles = 20
	}
	base, err := os.MkdirTemp("", "c1proxy-crash-")
	if err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	c := &crash{verb: v, base: base, binary: filepath.Join(base, "proxy"), segments: 64 << 10, remember: 1_000_000}
	if err := run(ctx, "go", "build", "-o", c.binary, "./cmd/proxy"); err != nil {
		return fmt.Errorf("build proxy: %w", err)
	}
	fmt.Printf("crash: seed %d\n", v.Seed)
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"kill", c.kills}, {"fault", c.faults}, {"disk", c.disk}} {
		if v.Only != "all" && v.Only != part.name {
			continue
		}
		begun := time.Now()
		c.part = part.name
		if err := part.run(ctx); err != nil {
			return c.failed(fmt.Errorf("crash: %s: %w", part.name, err))
		}
		fmt.Printf("ok    %-6s %.1fs\n", part.name, time.Since(begun).Seconds())
	}
	if err := os.RemoveAll(base); err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	return nil
}

// A crash is one run of the verb.
type crash struct {
	verb   *crashVerb
	base   string // of all its files
	binary string
	part   string
	rigs   int
	// segments is the size of a segment, in bytes; remember how many requests
	// C1 remembers.
	segments, remember int
}

// failed says where to look and how to see it again.
func (c *crash) failed(err error) error {
	return fmt.Errorf("%w\nleft for a look: %s\nto repeat it: go run ./internal/dev crash --only %s --cycles %d --seed %d",
		err, c.base, c.part, c.verb.Cycles, c.verb.Seed)
}

// random is a source of chance of its own for each number.
func (c *crash) random(n int) *rand.Rand { return rand.New(rand.NewPCG(c.verb.Seed, uint64(n))) }

// A crashSum is what was done and found, over several logs.
type crashSum struct{ reached, records, indeterminate, torn, lost int }

// add adds what the last check of a rig has found.
func (s *crashSum) add(r *rig, f *crashFound) {
	s.reached += f.reached
	s.records += f.records
	s.indeterminate += f.indeterminate
	s.lost += r.lost
}

func (s *crashSum) String() string {
	text := fmt.Sprintf("%d calls reached C1, %d records checked, %d intents became indeterminate, 0 misses, 0 false alarms", s.reached, s.records, s.indeterminate)
	if s.lost > 0 {
		text += fmt.Sprintf("; %d final records never got to a disk that failed to the last", s.lost)
	}
	return text
}

// crashMisses is the error of what must not be.
func crashMisses(found []string) error {
	if len(found) == 0 {
		return nil
	}
	const most = 20
	text := fmt.Sprintf("%d misses or false alarms:\n%s", len(found), strings.Join(found[:min(len(found), most)], "\n"))
	if len(found) > most {
		text += fmt.Sprintf("\nand %d more", len(found)-most)
	}
	return fmt.Errorf("%s", text)
}
