package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
)

type loadVerb struct {
	Size int `default:"10000" help:"How many connections, and how many calls, at once."`
}

// Run runs the tests of load, which are as many as in CI but smaller there,
// without the race detector: it would be what is measured. Nothing is cached,
// so that the figures are of today.
func (v *loadVerb) Run(ctx context.Context) error {
	if err := os.Setenv("C1PROXY_LOAD", strconv.Itoa(v.Size)); err != nil {
		return fmt.Errorf("set size: %w", err)
	}
	return run(ctx, "go", "test", "-count=1", "-v", "-timeout=10m",
		"-run=^(TestHostileInput|TestSlowInput|TestRapidReset|TestIdleConnections|TestCallsInFlight|TestResetKeepsThePlace|TestMemoryLimit|TestConnectionAge|TestDrain.*)$", ".")
}
