package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// disk lets a small disk fill up, and makes room again.
func (c *crash) disk(ctx context.Context) error {
	mount := filepath.Join(c.base, "disk")
	if err := os.Mkdir(mount, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		fmt.Printf("skip  disk   no small file system can be mounted here: %v\n", err)
		return skippedInCI("crash disk")
	}
	unmount := func() error { return unix.Unmount(mount, unix.MNT_DETACH) }
	sum, refused, err := c.fill(ctx, mount)
	if err == nil {
		err = unmount() // what went wrong is left for a look
	}
	if err != nil {
		return err
	}
	fmt.Printf("disk: full 2 times, %d calls refused as AUDIT_UNAVAILABLE, none of them reached C1; room made, serving again by itself: %v\n", refused, sum)
	return nil
}

// fill fills the disk twice: first the log does, then there is no room from
// the start of a load on.
func (c *crash) fill(ctx context.Context, mount string) (*crashSum, int64, error) {
	r, err := c.newRig(filepath.Join(mount, "audit"))
	if err != nil {
		return nil, 0, err
	}
	defer r.c1.Close()
	ballast := filepath.Join(mount, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
		return nil, 0, err
	}
	g, err := r.serve(ctx)
	if err != nil {
		return nil, 0, err
	}
	l := r.load(g)
	defer l.close()
	for range 2 {
		if err = r.full(ctx, g, l, ballast); err != nil {
			break
		}
		// As much as there is room.
		if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil && !errors.Is(err, unix.ENOSPC) {
			return nil, 0, err
		}
	}
	if removed := os.Remove(ballast); err == nil {
		err = removed
	}
	if err == nil {
		err = g.await(ctx, true)
	}
	if stopped := g.stop(syscall.SIGTERM); err == nil {
		err = stopped
	}
	if err != nil {
		return nil, 0, err
	}
	if _, err := r.check(ctx); err != nil {
		return nil, 0, err
	}
	found, err := r.finish(ctx)
	if err != nil {
		return nil, 0, err
	}
	sum := new(crashSum)
	sum.add(r, found)
	return sum, l.unavailable.Load(), nil
}

// full makes calls until the disk is full, holds the gateway to what it must
// do then, makes room and waits for it to recover.
func (r *rig) full(ctx context.Context, g *gateway, l *load, ballast string) error {
	for begun, before := time.Now(), l.unavailable.Load(); l.unavailable.Load() == before; {
		if time.Since(begun) > patience {
			return fmt.Errorf("the disk does not fill up")
		}
		l.each(ctx, 8, int(l.serial.Load()), func(made int) bool { return made == 20 || l.unavailable.Load() > before })
	}
	if err := g.await(ctx, false); err != nil {
		return err
	}
	hits := r.c1.Hits()
	for _, door := range crashDoors {
		for method := range crashMethods {
			if status, err := l.call(ctx, "bot", door, method, 2); door != "grpc" && status != 503 {
				return fmt.Errorf("a call of a gateway without room for its audit: %d, %w", status, err)
			}
		}
	}
	if now := r.c1.Hits(); now != hits {
		return fmt.Errorf("%d calls reached C1 while there was no room for their intents", now-hits)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if err := g.await(ctx, true); err != nil {
		return err
	}
	before := l.ok.Load()
	if _, err := l.call(ctx, "bot", "connect", 0, 0); err != nil || l.ok.Load() == before {
		return fmt.Errorf("a call after room was made failed: %w", err)
	}
	return nil
}
