package c1proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
	"github.com/c1proxy/c1proxy/internal/sandbox"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
)

// reload has a text in force.
func (g *gateway) reload(text string) error {
	return g.proxy.Reload(g.t.Context(), "test", func(fixed config.Check) (*configv1.Config, error) {
		return config.Parse("test.yaml", []byte(text), proxy.Check, fixed)
	})
}

// replaced is the text with a part of it replaced, which must be there.
func replaced(t testing.TB, text, old, now string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("no %q in\n%s", old, text)
	}
	return strings.Replace(text, old, now, 1)
}

const onlyConnectors = `- methods: ["c1.api.app.v1.ConnectorService/*"]`

// Reloads in a loop cost no call, whatever the door, and no call is decided by
// one policy and recorded under the other.
func TestReloadUnderLoad(t *testing.T) {
	g := start(t)
	warm(g)
	other := replaced(t, g.text, onlyConnectors, `- methods: ["c1.api.app.v1.AppSearch/*"]`)
	open := g.proxy.Revision()
	var calls, unready atomic.Int64
	done := make(chan struct{})
	var callers sync.WaitGroup
	for _, p := range protocols {
		for _, caller := range []string{"sync-bot", "reader"} {
			client := g.client(p, caller)
			callers.Go(func() {
				for running(done) {
					calls.Add(1)
					_, err := client.List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
					if err != nil && (caller == "reader" || connect.CodeOf(err) != connect.CodePermissionDenied) {
						t.Errorf("%s, %s: %v", p.name, caller, err)
					}
				}
			})
		}
	}
	callers.Go(func() {
		for running(done) {
			if status, body := g.admin("/readyz"); status != http.StatusOK {
				unready.Add(1)
				t.Errorf("not ready: %s", body)
			}
		}
	})
	const reloads = 60
	for i := range reloads {
		text := []string{other, g.text}[i%2]
		// Each is another revision, so that one that decides too early is seen.
		if err := g.reload(replaced(t, text, "allow_insecure: true", fmt.Sprintf("allow_insecure: true\n    timeout: %ds", 31+i))); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Millisecond) // for calls to begin in it
	}
	close(done)
	callers.Wait()
	g.checkDecisions(open, reloads)
	if hits := g.c1.TokenHits(); hits != 1 {
		t.Errorf("%d exchanges for tokens, want the first one alone", hits)
	}
	metrics := g.metrics()
	for _, want := range []string{fmt.Sprintf(`c1proxy_config_reloads_total{result="ok"} %d`, reloads), `c1proxy_config_reloads_total{result="failed"} 0`,
		fmt.Sprintf(`c1proxy_config_revision{revision=%q} 1`, g.proxy.Revision()), "c1proxy_config_last_reload_ok 1"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if strings.Contains(metrics, open) {
		t.Errorf("the revision %s is in the metrics still", open)
	}
	t.Logf("%d calls, %d reloads", calls.Load(), reloads)
}

// running says that a channel is not closed.
func running(done <-chan struct{}) bool {
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// checkDecisions holds each record of sync-bot's against the revision that it
// names, of which every other one denies, and that each revision was announced
// before it decided.
func (g *gateway) checkDecisions(open string, reloads int) {
	g.t.Helper()
	before, allows, decided := open, map[string]bool{open: true}, map[bool]int{}
	err := audit.Query(g.t.Context(), g.dir, audit.Filter{}, func(r audit.Record) error {
		if r.Kind == audit.KindEvent {
			if r.Event == "config_reloaded" {
				if r.PolicyRevision != r.Detail["after"] || r.Detail["before"] != before || r.Detail["trigger"] != "test" {
					g.t.Errorf("event %d: %v, policy revision %s", r.Seq, r.Detail, r.PolicyRevision)
				}
				allows[r.Detail["after"]] = !allows[before]
				before = r.Detail["after"]
			}
			return nil
		}
		allowed, known := allows[r.PolicyRevision]
		if !known {
			g.t.Errorf("record %d was decided by revision %q before any event names it", r.Seq, r.PolicyRevision)
		}
		if r.Caller != "sync-bot" {
			return nil
		}
		decided[allowed]++
		if allowed != (r.Kind != audit.KindDenied) {
			g.t.Errorf("record %d: %s by revision %s", r.Seq, r.Kind, r.PolicyRevision)
		}
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	if len(allows) != reloads+1 || decided[true] == 0 || decided[false] == 0 {
		g.t.Errorf("%d revisions of %d reloads, decisions %v", len(allows), reloads, decided)
	}
}

// What is bad, or cannot change without a restart, changes nothing, says where
// it stands, and is known until it is mended.
func TestReloadRefused(t *testing.T) {
	g := start(t)
	warm(g)
	before := g.proxy.Revision()
	const fixedKey = "restart c1proxy"
	tests := map[string]struct {
		text string
		want []string
	}{
		"typo":     {replaced(t, g.text, "callers:", "calers:"), []string{"test.yaml:", `did you mean "callers"`}},
		"method":   {replaced(t, g.text, "ConnectorService/*", "ConnectorService/Gett"), []string{"test.yaml:", "Gett"}},
		"half":     {g.text[:len(g.text)/2], []string{"test.yaml:"}},
		"empty":    {"", []string{"test.yaml:"}},
		"secret":   {replaced(t, g.text, filepath.Dir(g.dir)+"/secret", "/nowhere/secret"), []string{"acme", "/nowhere/secret"}},
		"refused":  {replaced(t, g.text, "client_id: "+g.facts.ClientID, "client_id: "+g.facts.PlainClientID), []string{"acme"}},
		"address":  {replaced(t, g.text, `listen: {address: "127.0.0.1:0"`, `listen: {address: "127.0.0.2:0"`), []string{"test.yaml:2:", "listen.address", fixedKey}},
		"tls":      {replaced(t, g.text, `listen: {address: "127.0.0.1:0"`, `listen: {tls: {cert_file: a, key_file: b}, address: "127.0.0.1:0"`), []string{"test.yaml:2:", "listen.tls", fixedKey}},
		"admin":    {replaced(t, g.text, `admin: {address: "127.0.0.1:0"`, `admin: {address: "127.0.0.3:0"`), []string{"admin.address", fixedKey}},
		"dir":      {replaced(t, g.text, `dir: "`+g.dir, `dir: "`+g.dir+"2"), []string{"audit.dir", fixedKey}},
		"key":      {replaced(t, g.text, "audit.key", "audit2.key"), []string{"audit.key_file", fixedKey}},
		"calls":    {replaced(t, g.text, `"127.0.0.1:0"}`, `"127.0.0.1:0", max_calls: 5, drain_delay: 3s}`), []string{"listen.max_calls", "listen.drain_delay", fixedKey}},
		"both":     {replaced(t, replaced(t, g.text, "audit.key", "audit2.key"), "reader\n", "reeder\n"), []string{"audit.key_file", fixedKey}},
		"vanished": {"", []string{"test.yaml:"}},
	}
	failed := 0
	for name, tt := range tests {
		err := g.reload(tt.text)
		failed++
		if err == nil {
			t.Fatalf("%s: it is in force", name)
		}
		for _, want := range append(tt.want, "revision "+before+" serves on") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in: %v", name, want, err)
			}
		}
		if err := g.list(); err != nil {
			t.Errorf("%s: the old configuration does not serve: %v", name, err)
		}
	}
	status, body := g.admin("/readyz")
	if status != http.StatusOK || !strings.Contains(body, `"config": "warning: revision `+before) {
		t.Errorf("readiness %d, %s", status, body)
	}
	events := 0
	_ = audit.Query(t.Context(), g.dir, audit.Filter{}, func(r audit.Record) error {
		if r.Event == "config_refused" && r.Detail["in_force"] == before && r.Detail["error"] != "" {
			events++
		}
		return nil
	})
	metrics := g.metrics()
	if events != failed || g.proxy.Revision() != before || !strings.Contains(metrics, fmt.Sprintf(`c1proxy_config_reloads_total{result="failed"} %d`, failed)) ||
		!strings.Contains(metrics, "c1proxy_config_last_reload_ok 0") {
		t.Errorf("%d events of %d failures, revision %s, want %s", events, failed, g.proxy.Revision(), before)
	}
	if err := g.reload(g.text); err != nil {
		t.Error(err)
	}
	if _, body := g.admin("/readyz"); !strings.Contains(body, `"config": "ok"`) {
		t.Errorf("after a good reload: %s", body)
	}
}

// A key, a team and a token that are removed are refused at the next request,
// on connections that are open; a stream that is open ends.
func TestReloadRemoves(t *testing.T) {
	for _, remove := range []string{"key", "team"} {
		g := start(t)
		client := g.client(protocols[2], "reader")
		list := func() error {
			_, err := client.List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
			return err
		}
		if err := list(); err != nil {
			t.Fatal(err)
		}
		transport := g.httpClient(false)
		transport.Transport = withKey{g.keys["reader"], transport.Transport}
		stream := grpcreflect.NewClient(transport, g.url).NewStream(t.Context())
		if _, err := stream.ListServices(); err != nil {
			t.Fatal(err)
		}
		text := g.text
		if remove == "team" {
			from, to := strings.Index(text, "  - name: readers"), strings.Index(text, "audit: {dir")
			text = text[:from] + text[to:]
		} else {
			from := strings.LastIndex(text, "        api_keys")
			text = text[:from] + text[from+strings.Index(text[from:], "\n")+1:]
		}
		if err := g.reload(text); err != nil {
			t.Fatal(err)
		}
		if err := list(); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%s: on an open connection: %v", remove, err)
		}
		until(t, remove+": an open stream has ended", func() bool { _, err := stream.ListServices(); return err != nil })
		stream.Close()
	}
}

// A token that was verified a moment ago proves nothing once its caller is
// removed; and with its issuer down, a reload locks nobody out.
func TestReloadOfIssuers(t *testing.T) {
	s := startShared(t)
	g, text := s.gateway, s.text
	good := proof{name: "token", bearer: []string{s.issuer.token("first", nil, nil)}}
	if _, err := s.try(protocols[0], good, false); err != nil {
		t.Fatal(err)
	}
	s.issuer.with(func() { s.issuer.down = true })
	changed := replaced(t, text, "audiences: [c1proxy]", "audiences: [c1proxy, other]")
	if err := g.reload(changed); err != nil {
		t.Fatal(err)
	}
	if _, err := s.try(protocols[0], good, false); err != nil {
		t.Errorf("the issuer is down: %v", err)
	}
	if _, body := g.admin("/readyz"); !strings.Contains(body, `"issuer/login": "ok"`) && !strings.Contains(body, "its keys of") {
		t.Errorf("readiness: %s", body)
	}
	if err := g.reload(replaced(t, changed, "oidc: {issuer: login, subject: sync-bot}", "oidc: {issuer: login, subject: another}")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.try(protocols[0], good, false); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("the caller is removed: %v", err)
	}
}

// A call that began before the reload goes on as it began, although its tenant
// is no more: even a token that it needs is had. Then all of it is let go. A call
// with a deadline runs apart from its handler.
func TestReloadLetsGo(t *testing.T) {
	g := start(t)
	second, err := sandbox.Start("127.0.0.1:0", sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(second.Facts().ClientSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	both := replaced(t, g.text, "teams:\n", fmt.Sprintf("  - {name: second, url: %q, allow_insecure: true, credential: {client_id: %q, client_secret: {file: %q}}}\nteams:\n",
		second.URL(), second.Facts().ClientID, secret))
	both = replaced(t, both, "name: readers\n    tenant: acme", "name: readers\n    tenant: second")
	for _, deadline := range []time.Duration{0, 30 * time.Second} {
		if err := g.reload(both); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(g.metrics(), `c1proxy_token_valid{team="",tenant="second"} 1`) {
			t.Error("the new tenant has no token, or is not measured")
		}
		second.RevokeAll()
		second.Inject(sandbox.Rule{Fault: sandbox.Slow(time.Second), On: sandbox.TokenEndpoint, Times: 1})
		hits := second.TokenHits()
		answered := make(chan error, 1)
		go func() {
			ctx := t.Context()
			if deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, deadline)
				defer cancel()
			}
			_, err := g.client(protocols[0], "reader").List(ctx, connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
			answered <- err
		}()
		until(t, "the call asks for another token", func() bool { return second.TokenHits() > hits })
		if err := g.reload(g.text); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(g.metrics(), `c1proxy_tenant_in_flight{tenant="second"}`) {
			t.Error("a tenant that is removed is measured still")
		}
		if err := <-answered; err != nil {
			t.Errorf("the call that was under way: %v", err)
		}
		until(t, "the tenant is forgotten", func() bool { return !strings.Contains(g.metrics(), `tenant="second"`) })
	}
	// What is in force stays, however many calls have ended in it.
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := g.client(protocols[0], "reader").List(ctx, connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		g.c1.RevokeAll()
	}
}

// The slots of a tenant are those of the configuration in force, and calls under
// way count.
func TestReloadResizes(t *testing.T) {
	g := start(t, func(s *setup) { s.keys = []string{"max_in_flight: 3"} }) // one for each team
	warm(g)
	g.c1.Reset()
	release := make(chan struct{})
	open := sync.OnceFunc(func() { close(release) })
	defer open()
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), Times: 1})
	answered := make(chan error, 1)
	go func() { answered <- g.list() }()
	if err := g.c1.AwaitHits(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := g.list(); reasonOf(err) != "OVERLOADED" {
		t.Errorf("beyond the slots: %v", err)
	}
	if err := g.reload(replaced(t, g.text, "max_in_flight: 3", "max_in_flight: 30")); err != nil {
		t.Fatal(err)
	}
	if err := g.list(); err != nil {
		t.Errorf("with more slots: %v", err)
	}
	if metrics := g.metrics(); !strings.Contains(metrics, `c1proxy_tenant_in_flight{tenant="acme"} 1`) {
		t.Error("the call under way does not count")
	}
	open()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// That C1 was found to be down is known after a reload too.
func TestReloadKeepsBreaker(t *testing.T) {
	g := start(t)
	warm(g)
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Failing(503)})
	until(t, "C1 counts as down", func() bool { return reasonOf(g.list()) == "UPSTREAM_DOWN" })
	if err := g.reload(replaced(t, g.text, "allow_insecure: true", "allow_insecure: true\n    max_in_flight: 64\n    timeout: 45s")); err != nil {
		t.Fatal(err)
	}
	if metrics := g.metrics(); !strings.Contains(metrics, `c1proxy_tenant_down{tenant="acme"} 1`) {
		t.Error("the breaker was forgotten")
	}
}

// A process reloads at SIGHUP and when its file changes, in whatever way it
// does.
func TestReloadOfFile(t *testing.T) {
	g, configFile := prepare(t, sandbox.Config{})
	good, err := os.ReadFile(configFile)
	if err != nil {
		t.Fatal(err)
	}
	// As Kubernetes mounts a ConfigMap: the file is a link into a directory that is
	// a link, which is set anew.
	dir := t.TempDir()
	version := func(n int, text string) {
		t.Helper()
		data := filepath.Join(dir, fmt.Sprintf("..%d", n))
		if err := os.MkdirAll(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "c1proxy.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(dir, "..next")
		if err := os.Symlink(filepath.Base(data), next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version(1, string(good))
	file := filepath.Join(dir, "c1proxy.yaml")
	if err := os.Symlink(filepath.Join("..data", "c1proxy.yaml"), file); err != nil {
		t.Fatal(err)
	}
	p := serveBinary(t, file)
	defer p.kill()
	g.url = p.url
	reloads := func(result string) float64 {
		return p.gauge(fmt.Sprintf(`c1proxy_config_reloads_total{result=%q}`, result))
	}
	counted := func(what, result string, n float64) {
		t.Helper()
		until(t, what, func() bool { return reloads(result) == n })
	}
	version(2, replaced(t, string(good), "name: reader\n", "name: reader-2\n"))
	counted("a link that was set anew is noticed", "ok", 1)
	version(3, strings.Replace(string(good), "callers:", "calers:", 1))
	counted("a bad file is noticed", "failed", 1)
	if err := os.Remove(filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	counted("a file that vanishes is noticed", "failed", 2)
	if err := g.list(); err != nil {
		t.Errorf("the old configuration does not serve: %v", err)
	}
	version(4, string(good))
	counted("it is back", "ok", 2)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	counted("SIGHUP reloads what has not changed too", "ok", 3)
	if failed := reloads("failed"); failed != 2 {
		t.Errorf("%v failures, want 2", failed)
	}
	for _, want := range []string{"the configuration was not reloaded, and the old one serves on", file + ":", `"trigger":"signal"`, `"trigger":"file"`, "segment is sealed"} {
		until(t, fmt.Sprintf("%q is in the log", want), func() bool { return strings.Contains(p.stderr.String(), want) }) // it is counted before
	}
}
