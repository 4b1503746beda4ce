package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// watchEvery is how often the configuration file is looked at. A change is taken
// once it was seen twice.
const watchEvery = time.Second

// A reloader keeps a proxy's configuration that of a file.
type reloader struct {
	file   string
	proxy  *proxy.Proxy
	logger *slog.Logger
	watch  *config.Watch
	// hangups has each SIGHUP. Without it SIGHUP would end the process.
	hangups <-chan os.Signal
}

// run reloads at each SIGHUP, as log rotation sends it too, after it has ended
// the audit's segment; and, if it watches, when the file changes. It goes on
// until stop is called, which waits for it.
func (r *reloader) run(ctx context.Context, watches bool) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ticks := make(<-chan time.Time)
	if watches {
		ticks = time.Tick(watchEvery)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-r.hangups:
				r.seal(ctx)
				data, err := r.watch.Load()
				r.reload(ctx, "signal", data, err)
			case <-ticks:
				if data, changed, err := r.watch.Look(); changed {
					r.reload(ctx, "file", data, err)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// seal ends the audit's segment.
func (r *reloader) seal(ctx context.Context) {
	if err := r.proxy.SealAudit(ctx); err != nil {
		r.logger.Error("the audit's segment cannot be sealed", "error", err)
		return
	}
	r.logger.Info("the audit's segment is sealed, and a new one begun")
}

// reload has the file's content in force, or logs why not.
func (r *reloader) reload(ctx context.Context, trigger string, data []byte, unread error) {
	before := r.proxy.Revision()
	err := r.proxy.Reload(ctx, trigger, func(fixed config.Check) (*configv1.Config, error) {
		if unread != nil {
			return nil, unread
		}
		return config.ReadData(r.file, data, proxy.Check, fixed)
	})
	if err != nil {
		r.logger.Error("the configuration was not reloaded, and the old one serves on", "trigger", trigger, "policy_revision", before, "error", err)
		return
	}
	r.logger.Info("the configuration is reloaded", "trigger", trigger, "before", before, "policy_revision", r.proxy.Revision())
}
