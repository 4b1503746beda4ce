package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/c1proxy/c1proxy/internal/proxy"
)

// sealOnHangup ends the audit's segment at each SIGHUP, as log rotation sends
// it, until ctx ends or stop is called. Without it SIGHUP would end the process.
func sealOnHangup(ctx context.Context, p *proxy.Proxy, logger *slog.Logger) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			select {
			case <-hangups:
			case <-ctx.Done():
				return
			}
			if err := p.SealAudit(ctx); err != nil {
				logger.Error("the audit's segment cannot be sealed", "error", err)
				continue
			}
			logger.Info("the audit's segment is sealed, and a new one begun")
		}
	}()
	return cancel
}
