package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// patience bounds what must come by itself: a start, a stop, a recovery.
const patience = 30 * time.Second

// A gateway is a running "proxy serve".
type gateway struct {
	cmd *exec.Cmd
	// serving is closed when it serves: then it has addresses.
	serving    chan struct{}
	url, admin string
	vkey       string
	// ended is closed when it has ended, and its tracer too.
	ended chan struct{}
	said  bytes.Buffer // on standard error; to be read when ended is closed
	err   error        // as said
}

// start starts a gateway, and does not wait for it to serve. wrap is a program
// that runs it, and must leave it its process.
func (r *rig) start(wrap ...string) (*gateway, error) {
	line := append(wrap, r.crash.binary, "serve", "--config", r.config)
	g := &gateway{cmd: exec.Command(line[0], line[1:]...), serving: make(chan struct{}), ended: make(chan struct{})}
	stderr, err := g.cmd.StderrPipe()
	if err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	go func() {
		defer close(g.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			g.said.Write(lines.Bytes())
			g.said.WriteByte('\n')
			var entry struct {
				Msg, Address, Admin string
				VKey                string `json:"audit_key"`
			}
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
				g.url, g.admin, g.vkey = "http://"+entry.Address, "http://"+entry.Admin, entry.VKey
				close(g.serving)
			}
		}
		g.err = g.cmd.Wait()
	}()
	return g, nil
}

// serves waits until the gateway serves, and tells whether it does or has
// ended instead.
func (r *rig) serves(ctx context.Context, g *gateway) (bool, error) {
	select {
	case <-g.serving:
		r.vkey = g.vkey
		return true, nil
	case <-g.ended:
		return false, nil
	case <-ctx.Done():
		_ = g.stop(os.Kill)
		return false, ctx.Err()
	case <-time.After(patience):
		_ = g.stop(os.Kill)
		return false, fmt.Errorf("start proxy: it does not serve after %v:\n%s", patience, g.said.Bytes())
	}
}

// serve starts a gateway that must serve.
func (r *rig) serve(ctx context.Context) (*gateway, error) {
	g, err := r.start()
	if err != nil {
		return nil, err
	}
	ok, err := r.serves(ctx, g)
	if err == nil && !ok {
		err = fmt.Errorf("start proxy: %w:\n%s", g.err, g.said.Bytes())
	}
	return g, err
}

// stop sends a signal and waits for the end. The error is how the process
// ended, unless it was killed.
func (g *gateway) stop(signal os.Signal) error {
	_ = g.cmd.Process.Signal(signal)
	select {
	case <-g.ended:
	case <-time.After(patience):
		_ = g.cmd.Process.Kill()
		<-g.ended
		return fmt.Errorf("it had not ended %v after %v:\n%s", patience, signal, g.said.Bytes())
	}
	if status, ok := g.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && signal == os.Kill && status.Signaled() {
		return nil
	}
	if g.err != nil {
		return fmt.Errorf("%w:\n%s", g.err, g.said.Bytes())
	}
	return nil
}

// ready asks /readyz.
func (g *gateway) ready(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.admin+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// await waits until readiness is what is wanted.
func (g *gateway) await(ctx context.Context, ready bool) error {
	end := time.Now().Add(patience)
	for g.ready(ctx) != ready {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return fmt.Errorf("readiness is not %v after %v", ready, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}
