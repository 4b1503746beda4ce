package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// healthTimeout is beyond the time that /readyz takes at most.
const healthTimeout = 5 * time.Second

// healthCommand is for a container that has no other program to ask with.
type healthCommand struct {
	URL string `arg:"" optional:"" default:"http://127.0.0.1:9090/readyz" help:"What to ask of the admin listener; /readyz if it has no path. (${default})"`
}

// Run prints the answer: on stdout if it is 200, else in the error. No
// HTTP_PROXY stands between the two.
func (h healthCommand) Run(ctx context.Context, t *terminal) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		return misconfigured{err}
	}
	if request.URL.Path == "" {
		request.URL.Path = "/readyz"
	}
	response, err := new(http.Transport).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", h.URL, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("ask %s: %w", h.URL, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s\n%s", h.URL, response.Status, bytes.TrimSpace(answer))
	}
	_, err = t.out.Write(answer)
	return err
}
