package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

type sandboxCommand struct {
	Listen       string        `default:"127.0.0.1:8081" placeholder:"ADDR" help:"Where to listen; port 0 chooses one. (${default})"`
	JSON         bool          `name:"json" help:"Print one line of JSON instead of text."`
	Chaos        bool          `help:"Let things go wrong by chance: 5% early 401, 5% slow, 2% 429, 1% reset after acting."`
	Unauthorized float64       `placeholder:"P" help:"The part, 0 to 1, that is answered 401 without acting."`
	Slow         float64       `placeholder:"P" help:"The part that is answered late."`
	Delay        time.Duration `default:"1s" help:"How late. (${default})"`
	RateLimited  float64       `placeholder:"P" help:"The part that is answered 429 with Retry-After, without acting."`
	Reset        float64       `placeholder:"P" help:"The part that acts and is then reset."`
	Seed         uint64        `help:"Repeats the chaos of an earlier run. 0 chooses one, and prints it."`
}

// Run serves the emulated C1 until SIGINT or SIGTERM. What it prints holds
// its secrets, which are made for this run and are good nowhere else.
func (s sandboxCommand) Run(ctx context.Context, t *terminal) error {
	chaos := sandbox.Chaos{Unauthorized: s.Unauthorized, Slow: s.Slow, Delay: s.Delay, RateLimited: s.RateLimited, Reset: s.Reset}
	if s.Chaos {
		chaos = sandbox.DefaultChaos()
		chaos.Delay = s.Delay
	}
	c1, err := sandbox.Start(s.Listen, sandbox.Config{Seed: s.Seed, Chaos: chaos})
	if err != nil {
		return err
	}
	if s.JSON {
		err = json.NewEncoder(t.out).Encode(c1.Facts())
	} else {
		_, err = fmt.Fprint(t.out, c1.Facts())
	}
	if err != nil {
		return err
	}
	return c1.Run(ctx)
}
