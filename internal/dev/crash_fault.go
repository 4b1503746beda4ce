package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A fault of the disk: system calls, each of which fails with an error.
type diskFault struct {
	calls []string
	error string
	// lasting: once it has failed it always fails. Otherwise it fails once.
	lasting bool
}

func (d diskFault) String() string {
	text := strings.Join(d.calls, "+") + " " + d.error
	if d.lasting {
		text += " for good"
	}
	return text
}

// diskFaults are all faults. Of the gateway's files only the audit is written
// by these calls; openat opens others too, whose faults the audit must stand
// just as well. A pwrite that fails is cut off again by an ftruncate.
func diskFaults() []diskFault {
	var faults []diskFault
	for _, name := range []string{"EIO", "ENOSPC", "EDQUOT"} {
		for _, calls := range []string{"pwrite64", "fdatasync", "fsync", "renameat", "openat", "pwrite64+ftruncate"} {
			faults = append(faults, diskFault{calls: strings.Split(calls, "+"), error: name})
		}
	}
	return append(faults, diskFault{[]string{"pwrite64"}, "ENOSPC", true}, diskFault{[]string{"fdatasync"}, "EIO", true},
		diskFault{[]string{"fsync"}, "EIO", true}, diskFault{[]string{"pwrite64", "ftruncate"}, "EIO", true})
}

const (
	// faultsPerLog is how many runs use a log before a new one is begun, so that
	// faults befall the first start and those that have much to repair.
	faultsPerLog = 8
	// mostFaults ends a fault that never ceases to be reached.
	mostFaults = 300
	// lastingFaults is how far faults for good are counted: most that follow are
	// the same.
	lastingFaults = 20
)

// shortFaults are the n of a short run: while it starts, and while it serves.
var shortFaults = []int{1, 6, 12}

// faults fails the nth of each call, for n from 1 on until it is reached no
// more: the nth of each thread, as strace counts, so that every call that
// the gateway makes is the one that fails in some run.
func (c *crash) faults(ctx context.Context) error {
	if err := traceable(); err != nil {
		fmt.Printf("skip  fault  strace cannot be used here: %v\n", err)
		return skippedInCI("crash fault")
	}
	f := &faultRuns{crash: c}
	for _, fault := range diskFaults() {
		if err := f.count(ctx, fault); err != nil {
			return err
		}
	}
	if err := f.close(ctx); err != nil {
		return err
	}
	fmt.Printf("fault: %d runs (%d refused to start, %d ended with what the disk had not taken): %v\n", f.runs, f.unstarted, f.unclean, &f.sum)
	return nil
}

// traceable tells why strace cannot be used; nil if it can.
func traceable() error {
	path, err := exec.LookPath("strace")
	if err != nil {
		return err
	}
	return exec.Command(path, "-D", "-f", "-qq", "-o", os.DevNull, "true").Run()
}

// faultRuns are the runs of all faults.
type faultRuns struct {
	crash *crash
	rig   *rig // nil if the next run is to have a new one
	used  int  // how often rig was used
	sum   crashSum

	runs, unstarted, unclean int
}

// count runs with the nth call failing, for each n, and prints how often it
// did.
func (f *faultRuns) count(ctx context.Context, fault diskFault) error {
	most := mostFaults
	if fault.lasting {
		most = lastingFaults
	}
	failed, last := 0, 0
	for n := 1; n <= most; n++ {
		if f.crash.verb.Short && !slices.Contains(shortFaults, n) {
			continue
		}
		reached, err := f.once(ctx, fault, n)
		if err != nil {
			return fmt.Errorf("%v, the %d. of each thread: %w", fault, n, err)
		}
		if reached == 0 {
			break
		}
		failed, last = failed+reached, n
	}
	fmt.Printf("      fault  %d x %v, up to the %d. of a thread\n", failed, fault, last)
	return nil
}

// once makes one run with a fault: a start, a load, an end, a check. It returns
// how often the fault came about.
func (f *faultRuns) once(ctx context.Context, fault diskFault, n int) (reached int, err error) {
	if f.rig == nil {
		if f.rig, err = f.crash.newRig(""); err != nil {
			return 0, err
		}
		f.used = 0
	}
	r := f.rig
	f.runs++
	f.used++
	trace := filepath.Join(f.crash.base, "trace")
	g, err := r.start(fault.strace(trace, n)...)
	if err != nil {
		return 0, err
	}
	ok, err := r.serves(ctx, g)
	if err != nil {
		return 0, err
	}
	if ok {
		if err := f.under(ctx, g, fault, n); err != nil {
			return 0, err
		}
	} else {
		f.unstarted++
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		return 0, err
	}
	reached = fault.reached(string(text))
	if !ok && !strings.Contains(string(text), injected) {
		return 0, fmt.Errorf("start proxy: %w:\n%s", g.err, g.said.Bytes())
	}
	if _, err := r.check(ctx); err != nil {
		return 0, err
	}
	if f.used == faultsPerLog {
		err = f.close(ctx)
	}
	return reached, err
}

// under loads a gateway whose disk fails, and ends it: with SIGTERM, or with
// kill -9, which leaves the next one more to do. Where the fault passes by the
// gateway must recover first, by itself.
func (f *faultRuns) under(ctx context.Context, g *gateway, fault diskFault, n int) error {
	l := f.rig.load(g)
	defer l.close()
	l.each(ctx, 4, n, func(made int) bool { return made == 10 })
	if fault.lasting {
		f.rig.excused = math.MaxInt
		return g.stop(os.Kill)
	}
	if err := g.await(ctx, true); err != nil {
		_ = g.stop(os.Kill)
		return fmt.Errorf("recover: %w:\n%s", err, g.said.Bytes())
	}
	if n%2 == 0 {
		// What was kept while the disk failed is written with the next record.
		for unavailable := int64(-1); unavailable != l.unavailable.Load(); {
			unavailable = l.unavailable.Load()
			if _, err := l.call(ctx, "bot", "connect", 0, 0); err != nil {
				return err
			}
		}
		return g.stop(os.Kill)
	}
	err := g.stop(syscall.SIGTERM)
	return f.unwritten(err)
}

var lostFinals = regexp.MustCompile(`\((\d+) final records are lost\)`)

// unwritten forgives an end that says that not everything could be written.
func (f *faultRuns) unwritten(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	lost := lostFinals.FindStringSubmatch(err.Error())
	if lost == nil {
		return err
	}
	f.unclean++
	f.rig.excused, err = strconv.Atoi(lost[1])
	return err
}

// close ends the log that is in use.
func (f *faultRuns) close(ctx context.Context) error {
	if f.rig == nil {
		return nil
	}
	found, err := f.rig.finish(ctx)
	if err != nil {
		return err
	}
	f.sum.add(f.rig, found)
	err = f.rig.remove()
	f.rig = nil
	return err
}

// injected marks a call in strace's output that was made to fail.
const injected = "(INJECTED)"

// reached is how often the first of the calls was made to fail, by the trace.
// A call that another thread's line has cut in two says so in its second half.
func (d diskFault) reached(trace string) (n int) {
	for line := range strings.Lines(trace) {
		if strings.Contains(line, injected) && (strings.Contains(line, " "+d.calls[0]+"(") || strings.Contains(line, "<... "+d.calls[0]+" resumed")) {
			n++
		}
	}
	return n
}

// strace is the program, with its arguments, that lets the nth call fail. It
// stays in the background, so that the gateway is our own child.
func (d diskFault) strace(trace string, n int) []string {
	when := strconv.Itoa(n)
	if d.lasting {
		when += "+"
	}
	line := []string{"strace", "-D", "-f", "-qq", "--seccomp-bpf", "-y", "-e", "signal=none", "-o", trace, "-e", "trace=" + strings.Join(d.calls, ",")}
	for i, call := range d.calls {
		at := when
		if i > 0 {
			at = "1" // it comes only after the first one
			if d.lasting {
				at += "+"
			}
		}
		line = append(line, "-e", "inject="+call+":error="+d.error+":when="+at)
	}
	return line
}
