package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

type serveCommand struct {
	Config string     `required:"" short:"c" placeholder:"FILE" help:"The configuration, such as c1proxy.yaml."`
	Level  slog.Level `name:"log-level" default:"info" help:"The least level to log: debug, info, warn or error."`
	Watch  bool       `default:"true" negatable:"" help:"Reload the configuration when its file changes. SIGHUP does in any case. (true)"`
}

// Run serves until SIGINT or SIGTERM, and then stops cleanly. SIGHUP seals the
// audit's segment and reloads the configuration, and so does a change of its
// file the latter. One that comes while it starts is obeyed as soon as it serves.
func (s serveCommand) Run(ctx context.Context, t *terminal) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	data, err := config.Load(s.Config)
	if err != nil {
		return misconfigured{err}
	}
	cfg, err := config.ReadData(s.Config, data, proxy.Check)
	if err != nil {
		return misconfigured{err}
	}
	logger := newLogger(t.err, s.Level)
	p, err := proxy.Open(ctx, cfg, proxy.Options{Logger: logger, Version: version()})
	if err != nil {
		return err
	}
	logger.Info("serving", "address", p.Addr().String(), "admin", p.AdminAddr().String(),
		"tls", cfg.GetListen().GetTls() != nil, "policy_revision", config.Revision(cfg), "audit_key", p.VerifierKey())
	if os.Geteuid() == 0 {
		logger.Warn("this is root, of whose powers c1proxy needs none: serve as a user of its own (deploy/ has a unit and a container that do)")
	}
	r := reloader{file: s.Config, proxy: p, logger: logger, watch: config.NewWatch(s.Config, data), hangups: hangups}
	defer r.run(ctx, s.Watch)()
	return p.Serve(ctx)
}

// misconfigured is an error that exits with exitUsage.
type misconfigured struct{ error }

// readConfig reads a configuration and checks all of it.
func readConfig(file string) (*configv1.Config, error) {
	cfg, err := config.Read(file, proxy.Check)
	if err != nil {
		return nil, misconfigured{err}
	}
	return cfg, nil
}

// version is this program's own version, "devel" where it was built from a
// work tree.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

type configCommand struct {
	Check  configCheckCommand  `cmd:"" help:"Check a configuration: exit 0, or 2 with file:line:column and what to do."`
	Schema configSchemaCommand `cmd:"" help:"Print the JSON Schema of the configuration, for editors."`
}

type configCheckCommand struct {
	File string `arg:"" help:"The configuration, such as c1proxy.yaml."`
}

// Run reads the configuration as serve does. It opens no secret and no port.
func (c configCheckCommand) Run(t *terminal) error {
	if _, err := readConfig(c.File); err != nil {
		return err
	}
	_, err := fmt.Fprintf(t.out, "%s: ok\n", c.File)
	return err
}

type configSchemaCommand struct{}

// Run prints the schema.
func (configSchemaCommand) Run(t *terminal) error {
	_, err := t.out.Write(config.JSONSchema())
	return err
}
