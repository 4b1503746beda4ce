package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// A log is killed this often before a new one is begun, so that checking all
// of it after each kill costs no more than the kill.
const killsPerLog = 50

// keptBytes is how much of a log stays in its directory while the gateway is
// killed: retention moves the rest to an archive.
const keptBytes = 1 << 20

// kills kills the gateway under load, again and again: mostly while it serves,
// sometimes while it starts. Meanwhile segments are sealed at SIGHUP, and
// archived.
func (c *crash) kills(ctx context.Context) error {
	var sum crashSum
	starting, archived := 0, 0
	for done := 0; done < c.verb.Cycles; {
		r, err := c.newRig("")
		if err != nil {
			return err
		}
		for n := min(killsPerLog, c.verb.Cycles-done); n > 0; n-- {
			early, found, err := r.kill(ctx, done)
			if err != nil {
				return fmt.Errorf("cycle %d: %w", done+1, err)
			}
			if early {
				starting++
			}
			if found.torn {
				sum.torn++
			}
			done++
		}
		found, err := r.finish(ctx)
		if err != nil {
			return fmt.Errorf("after cycle %d: %w", done, err)
		}
		sum.add(r, found)
		archived += found.archived
		if err := r.remove(); err != nil {
			return err
		}
		if done < c.verb.Cycles {
			fmt.Printf("      kill   %d of %d\n", done, c.verb.Cycles)
		}
	}
	fmt.Printf("kill: seed %d, %d cycles (%d while it started, %d torn writes), %d segments archived: %v\n", c.verb.Seed, c.verb.Cycles, starting, sum.torn, archived, &sum)
	if sum.reached == 0 {
		return fmt.Errorf("no call reached C1: nothing was tested")
	}
	return nil
}

// kill is one cycle: a start, a load, a kill, a check.
func (r *rig) kill(ctx context.Context, cycle int) (early bool, found *crashFound, err error) {
	random := r.crash.random(cycle)
	g, err := r.start()
	if err != nil {
		return false, nil, err
	}
	if early = random.IntN(5) == 0; early {
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
		err = g.stop(os.Kill)
	} else {
		err = r.killServing(ctx, g, cycle, time.Duration(random.IntN(200))*time.Millisecond)
	}
	if err != nil {
		return early, nil, err
	}
	found, err = r.check(ctx)
	return early, found, err
}

// killServing kills a gateway when it has served for a while.
func (r *rig) killServing(ctx context.Context, g *gateway, cycle int, after time.Duration) error {
	ok, err := r.serves(ctx, g)
	if err == nil && !ok {
		err = fmt.Errorf("start proxy: %w:\n%s", g.err, g.said.Bytes())
	}
	if err != nil {
		return err
	}
	l := r.load(g)
	defer l.close()
	ctx, cancel := context.WithCancel(ctx)
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		l.each(ctx, 16, cycle, func(int) bool { return false })
	}()
	const hangup = 30 * time.Millisecond
	for ; after > hangup; after -= hangup { // the moment of the kill is left to chance
		time.Sleep(hangup)
		_ = g.cmd.Process.Signal(syscall.SIGHUP)
	}
	time.Sleep(after)
	err = g.stop(os.Kill)
	cancel()
	<-loaded
	return err
}

// remove gives up the rig, whose log was right.
func (r *rig) remove() error {
	if err := r.c1.Close(); err != nil {
		return err
	}
	return os.RemoveAll(r.dir)
}
