package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// A rig is one audit directory and one emulated C1. Gateways, one after the
// other, stand between them and callers.
type rig struct {
	crash *crash
	dir   string // of the audit
	// archive is where retention moves segments to; "" if it removes none.
	archive string
	config  string
	c1      *sandbox.Server
	// keys are API keys by caller. The stranger's is no caller's.
	keys map[string]string
	// vkey is the audit's key, once a gateway has served.
	vkey string
	// excused bounds the final records that the next check may miss: the last
	// gateway has ended with so many in memory that its disk would not take.
	excused int

	mu sync.Mutex
	// answered has the calls that were answered, by request id; the value tells
	// whether their caller is known.
	answered map[string]bool
	// nameless counts the calls that were made without a caller.
	nameless int
	// lost counts what was excused, lostNameless what of it had no caller.
	lost, lostNameless int
}

// newRig makes a rig. Its audit's directory is made by the first gateway,
// unless at says where it is.
func (c *crash) newRig(at string) (*rig, error) {
	c.rigs++
	base := filepath.Join(c.base, fmt.Sprintf("%s-%d", c.part, c.rigs))
	if err := os.Mkdir(base, 0o700); err != nil {
		return nil, err
	}
	if at == "" {
		at = filepath.Join(base, "audit")
	}
	c1, err := sandbox.Start("127.0.0.1:0", sandbox.Config{Stateless: true, Remember: c.remember})
	if err != nil {
		return nil, err
	}
	r := &rig{crash: c, dir: at, config: filepath.Join(base, "c1proxy.yaml"), c1: c1, keys: map[string]string{"": ""}, answered: map[string]bool{}}
	if c.part == "kill" {
		r.archive = filepath.Join(base, "archive")
	}
	for _, caller := range []string{"bot", "reader", "slow", "stranger"} {
		r.keys[caller] = authn.NewKey()
	}
	secret := filepath.Join(base, "secret")
	if r.archive != "" {
		err = os.Mkdir(r.archive, 0o700)
	}
	if err == nil {
		err = os.WriteFile(secret, []byte(c1.Facts().ClientSecret), 0o600)
	}
	if err == nil {
		err = os.WriteFile(r.config, []byte(r.configuration(secret, filepath.Join(base, "audit.key"))), 0o600)
	}
	if err != nil {
		_ = c1.Close()
		return nil, err
	}
	return r, nil
}

// retain is the part of the configuration that says what becomes of old segments.
func (r *rig) retain() string {
	if r.archive == "" {
		return ""
	}
	return fmt.Sprintf(`, retain: {bytes: %d, archive_dir: "%s"}`, keptBytes, r.archive)
}

// configuration has limits that are not reached, but for one caller's.
func (r *rig) configuration(secret, key string) string {
	const enough = "{rate: 1000000, per: 1s, burst: 1000000}"
	return fmt.Sprintf(`
listen: {address: "127.0.0.1:0"}
tenants:
  - name: acme
    url: %s
    allow_insecure: true
    limit: %s
    credential: {client_id: "%s", client_secret: {file: "%s"}}
teams:
  - name: payments
    tenant: acme
    callers: [{name: bot, api_keys: [{sha256: "%[5]s"}]}]
    allow: [{methods: ["c1.api.app.v1.ConnectorService/*"]}]
    limits: {team: %[2]s, caller: %[2]s}
  - name: slow
    tenant: acme
    callers: [{name: slow, api_keys: [{sha256: "%[6]s"}]}]
    allow: [{methods: ["c1.api.app.v1.ConnectorService/*"]}]
    limits: {caller: {rate: 1, per: 3600s, burst: 1}}
  - name: readers
    tenant: acme
    callers: [{name: reader, api_keys: [{sha256: "%[7]s"}]}]
    allow: [{methods: ["c1.**/*"], class: read}]
    limits: {team: %[2]s, caller: %[2]s}
audit: {dir: "%[8]s", key_file: "%[9]s", segment_bytes: %[10]d%[11]s}
admin: {address: "127.0.0.1:0"}
`, r.c1.URL(), enough, r.c1.Facts().ClientID, secret, authn.HashKey(r.keys["bot"]), authn.HashKey(r.keys["slow"]), authn.HashKey(r.keys["reader"]), r.dir, key, r.crash.segments, r.retain())
}

// answer notes that a call has been answered.
func (r *rig) answer(id string, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answered[id] = known
}

// finish starts a last gateway, which settles what the others have left, stops
// it cleanly, and checks everything once more: with the real program too.
func (r *rig) finish(ctx context.Context) (*crashFound, error) {
	g, err := r.serve(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.stop(syscall.SIGTERM); err != nil {
		return nil, fmt.Errorf("clean stop: %w", err)
	}
	found, err := r.check(ctx)
	if err != nil {
		return nil, err
	}
	found.closed()
	if out, err := output(ctx, r.crash.binary, "audit", "verify", r.dir, "--key", r.vkey); err != nil {
		found.miss("proxy audit verify: %v\n%s", err, out)
	}
	return found, crashMisses(found.misses)
}
