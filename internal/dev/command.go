package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// toolsMod pins the programs that are not ours.
const toolsMod = "-modfile=internal/dev/tools.mod"

// tool is the command line of a program that tools.mod pins. Go builds it at
// its first use and keeps it in the build cache.
func tool(name string, args ...string) []string {
	return append([]string{"go", "tool", toolsMod, name}, args...)
}

// command prepares line[0] with its arguments. When ctx ends the program is
// asked to stop, so that it can stop its own children, and killed 10 s later.
func command(ctx context.Context, line ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run runs a program on this program's own output.
func run(ctx context.Context, line ...string) error {
	cmd := command(ctx, line...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", strings.Join(line, " "), err)
	}
	return nil
}

// output runs a program and returns what it printed on standard output. What
// it printed on standard error is in the error.
func output(ctx context.Context, line ...string) ([]byte, error) {
	cmd := command(ctx, line...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("run %s: %w\n%s", strings.Join(line, " "), err, stderr.Bytes())
	}
	return out, nil
}

// quiet runs a program that prints findings, and returns them all as the error.
// One that prints and yet exits with 0 has found nothing.
func quiet(ctx context.Context, line ...string) error {
	out, err := command(ctx, line...).CombinedOutput()
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(string(out)); text != "" {
		return errors.New(text)
	}
	return fmt.Errorf("run %s: %w", strings.Join(line, " "), err)
}

// inCI tells whether CI runs this program: then a test may be skipped only
// for a reason that is on the list.
func inCI() bool { return os.Getenv("CI") == "true" }
