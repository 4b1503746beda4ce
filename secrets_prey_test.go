package c1proxy_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/gen/c1/api/app/v1/appv1connect"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// A prey is a real c1proxy with canaries for secrets, and all that left it.
type prey struct {
	*gateway
	root      string // of all its files
	env       []string
	teams     []string // one for each tenant, of the same name
	mad       *hostile
	proxy     *hostile
	collector *collector
	witness   *witness
	admin     string // its URL
	canaries  []canary
	places    []place
	outputs   []*syncBuffer // stdout and stderr of each process
}

// The prey's configuration, but for its tenants and teams.
const preyConfig = `
listen: {address: "127.0.0.1:0"}
admin: {address: "127.0.0.1:%[1]d"}
audit: {dir: "%[2]s/audit", key_file: "%[2]s/audit.key"}
telemetry:
  traces:
    endpoint: %[3]q
    headers: [{name: authorization, value: {file: "%[2]s/collector"}}, {name: x-key, value: {env: COLLECTOR_KEY}}]
`

// newPrey writes the configuration and the secrets of a c1proxy, and keeps what
// must not leave it.
func newPrey(t *testing.T) *prey {
	t.Helper()
	p := &prey{gateway: &gateway{t: t, keys: map[string]string{}}, root: t.TempDir(), collector: newCollector(t), mad: listenHostile(t), proxy: listenHostile(t)}
	p.dir = filepath.Join(p.root, "audit")
	var err error
	if p.c1, err = sandbox.Start("127.0.0.1:0", sandbox.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.c1.Close() })
	p.facts = p.c1.Facts()
	subject, err := p.c1.SubjectToken(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"signed": p.facts.ClientSecret, "subject": subject, "collector": collectorKey} {
		p.write(name, text)
	}
	for name, text := range map[string]string{
		"PLAIN_SECRET": p.facts.PlainClientSecret, "STATIC_TOKEN": p.facts.StaticToken,
		"WRONG_SECRET":     "Wrong-Canary+0123456789/abc=def \"&<\u00e9>",
		"MALFORMED_SECRET": "secret-token:conductorone.com:v1:" + base64.RawURLEncoding.EncodeToString([]byte(`{"kty":"OKP","crv":"Ed25519","x":"AAAA","d":"malformed-canary-private"}`)),
		"HOSTILE_TOKEN":    "Hostile-Canary-Token/0123456789+abcdef==",
		"HOSTILE_SECRET":   "Hostile-Canary-Secret-0123456789abcdef",
		"COLLECTOR_KEY":    "Collector-Canary-Env-0123456789",
		"PROXY_PASSWORD":   "Proxy-Canary-Password-0123456789",
		// Which OpenTelemetry's SDK would complain about, and quote.
		"OTEL_RESOURCE_ATTRIBUTES": "Resource-Canary-0123456789",
	} {
		p.env = append(p.env, name+"="+text)
		p.add(name, text)
	}
	p.add("client secret", p.facts.ClientSecret)
	p.add("client's private key", privateOf(t, p.facts.ClientSecret))
	p.add("subject token", subject)
	p.add("collector's key", strings.TrimPrefix(collectorKey, "Bearer "))
	port := freePort(t)
	p.admin = fmt.Sprintf("http://127.0.0.1:%d", port)
	p.write("c1proxy.yaml", fmt.Sprintf(preyConfig, port, p.root, p.collector.URL)+p.tenants())
	return p
}

// tenants writes the tenants, each with another form of credential, and a team
// for each of them with its own key.
func (p *prey) tenants() string {
	tenants, teams := "tenants:\n", "teams:\n"
	team := func(name, tenant, rule, more string) {
		p.keys[name] = authn.NewKey()
		p.canaries = append(p.canaries, canary{"key of " + name, p.keys[name]})
		teams += fmt.Sprintf("  - {name: %s, tenant: %s, callers: [{name: bot, api_keys: [{sha256: %q}]}], allow: [{methods: [\"c1.**/*\"], include_draft: true%s}]%s}\n",
			name, tenant, authn.HashKey(p.keys[name]), rule, more)
	}
	tenant := func(name, url, credential string, args ...any) {
		tenants += fmt.Sprintf("  - {name: %s, url: %q, allow_insecure: true, credential: {"+credential+"}}\n", append([]any{name, url}, args...)...)
		p.teams = append(p.teams, name)
		team(name, name, "", "")
	}
	c1 := p.c1.URL()
	tenant("signed", c1, `client_id: %q, client_secret: {file: "%s/signed"}`, p.facts.ClientID, p.root)
	tenant("plain", c1, `client_id: %q, client_secret: {env: PLAIN_SECRET}`, p.facts.PlainClientID)
	tenant("federated", c1, `client_id: %q, subject_token: {file: "%s/subject"}`, p.facts.FederationClientID, p.root)
	tenant("bound", c1, `client_id: %q, client_secret: {file: "%s/signed"}, dpop: true`, p.facts.ClientID, p.root)
	tenant("static", c1, `access_token: {env: STATIC_TOKEN}`)
	tenant("wrong", c1, `client_id: %q, client_secret: {env: WRONG_SECRET}`, p.facts.PlainClientID)
	tenant("malformed", c1, `client_id: %q, client_secret: {env: MALFORMED_SECRET}`, p.facts.ClientID)
	tenant("mad", p.mad.url, `access_token: {env: HOSTILE_TOKEN}`)
	tenant("proxied", "https://127.0.0.1:9", `access_token: {env: STATIC_TOKEN}}, proxy: {url: %q, username: u, password: {env: PROXY_PASSWORD}`, p.proxy.url)
	for i := range rants {
		h := listenHostile(p.t)
		h.turn.Store(int64(i))
		tenant(fmt.Sprintf("mad-tokens-%d", i), h.url, `client_id: "a@127.0.0.1/spc", client_secret: {env: HOSTILE_SECRET}`)
	}
	team("reader", "signed", ", class: read", "")
	team("slow", "signed", "", ", limits: {team: {rate: 1, per: 3600s, burst: 1}}")
	return tenants + teams
}

func (p *prey) add(name, text string) { p.canaries = append(p.canaries, canary{name, text}) }

func (p *prey) write(name, text string) {
	if err := os.WriteFile(filepath.Join(p.root, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// privateOf is the private part of the key in a client secret.
func privateOf(t *testing.T, secret string) string {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(secret[strings.LastIndex(secret, ":")+1:])
	var key struct{ D string }
	if err == nil {
		err = json.Unmarshal(data, &key)
	}
	if err != nil || key.D == "" {
		t.Fatalf("the client secret holds no key: %v", err)
	}
	return key.D
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// run starts the program with its own empty folders, and returns when it ended
// or, for serve, when it serves.
func (p *prey) run(serve bool, args ...string) *exec.Cmd {
	p.t.Helper()
	name, err := binary()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, folder := range []string{"work", "tmp"} {
		if err := os.MkdirAll(filepath.Join(p.root, folder), 0o700); err != nil {
			p.t.Fatal(err)
		}
	}
	out := new(syncBuffer)
	p.outputs = append(p.outputs, out)
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join(p.root, "work"), out, out
	cmd.Env = append([]string{"TMPDIR=" + filepath.Join(p.root, "tmp"), "GOTRACEBACK=all"}, p.env...)
	if !serve {
		_ = cmd.Run() // the exit code is of no interest here
		return cmd
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		cmd.Process.Kill()
		if p.t.Failed() && p.url == "" {
			p.t.Logf("%.4000s", out)
		}
	})
	p.url = ""
	until(p.t, "the proxy serves", func() bool {
		for line := range strings.Lines(out.String()) {
			var entry struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
				p.url = "http://" + entry.Address
				return true
			}
		}
		return false
	})
	return cmd
}

func (p *prey) note(name, data string) { p.places = append(p.places, place{name: name, data: data}) }

// do sends a raw request; whatever comes back is noted by the witness.
func (p *prey) do(r *http.Request) {
	if response, err := p.witness.RoundTrip(r); err == nil {
		response.Body.Close()
	}
}

// confirming is a raw request on one of the doors.
func (p *prey) confirming(door, key, sync string) *http.Request {
	message := &appv1.ConfirmSyncValidRequest{AppId: p.facts.AppID, ConnectorId: p.facts.ConnectorID, SyncLifecycleId: sync}
	path, body, media := confirmMethod, p.confirmJSON(sync), "application/json"
	switch door {
	case "rest":
		path = "api/v1/apps/" + p.facts.AppID + "/connectors/" + p.facts.ConnectorID + "/confirm_sync_valid/" + sync
		body = "{}"
	case "grpc", "grpc-web":
		data, err := proto.Marshal(message)
		if err != nil {
			p.t.Fatal(err)
		}
		body, media = "\x00\x00\x00\x00"+string(rune(len(data)))+string(data), "application/"+door
	}
	r := p.post(path, key, body)
	r.Header.Set("Content-Type", media)
	return r
}

// misplaced are the ways in which people put a key where it does not belong, or
// show one that is not right. All but the last three begin without a credential.
var misplaced = map[string]func(r *http.Request, key string){
	"none":           func(*http.Request, string) {},
	"near miss":      func(r *http.Request, key string) { r.Header.Set("Authorization", "Bearer "+key[:len(key)-1]+"!") },
	"other checksum": func(r *http.Request, key string) { r.Header.Set("Authorization", "Bearer "+key[:len(key)-4]+"AAAA") },
	"cut":            func(r *http.Request, key string) { r.Header.Set("Authorization", "Bearer "+key[:len(key)-4]) },
	"without prefix": func(r *http.Request, key string) { r.Header.Set("Authorization", "Bearer "+key[4:]) },
	"without scheme": func(r *http.Request, key string) { r.Header.Set("Authorization", key) },
	"scheme glued":   func(r *http.Request, key string) { r.Header.Set("Authorization", "Bearer"+key) },
	"twice": func(r *http.Request, key string) {
		r.Header["Authorization"] = []string{"Bearer " + key, "Bearer " + key}
	},
	"Basic":          func(r *http.Request, key string) { r.SetBasicAuth("user", key) },
	"Basic, as user": func(r *http.Request, key string) { r.SetBasicAuth(key, "caller-canary-password") },
	"JWT":            func(r *http.Request, _ string) { r.Header.Set("Authorization", "Bearer "+callerJWT) },
	"query":          func(r *http.Request, key string) { r.URL.RawQuery = "api_key=" + key },
	"query's key":    func(r *http.Request, key string) { r.URL.RawQuery = key + "=1" },
	"cookie":         func(r *http.Request, key string) { r.Header.Set("Cookie", "key="+key+"; s=caller-canary-cookie") },
	"X-Api-Key":      func(r *http.Request, key string) { r.Header.Set("X-Api-Key", key) },
	"path":           func(r *http.Request, key string) { r.URL.Path += "/" + key },
	"procedure":      func(r *http.Request, key string) { r.URL.Path = "/" + key + "/" + key },
	"body":           func(r *http.Request, key string) { setBody(r, `{"key":"`+key+`"}`) },
	"body's field":   func(r *http.Request, key string) { setBody(r, `{"`+key+`":1}`) },
	"reason":         func(r *http.Request, key string) { r.Header.Set("C1proxy-Reason", "my key is "+key) },
	"reason, escaped": func(r *http.Request, key string) {
		r.Header.Set("C1proxy-Reason", strings.ReplaceAll("=k"+key, "k", "%6b"))
	},
	"request id": func(r *http.Request, key string) { r.Header.Set("X-Request-Id", strings.Repeat("x", 100)+key) },
	"trace": func(r *http.Request, key string) {
		r.Header.Set("Traceparent", key)
		r.Header.Set("Tracestate", "k="+key)
	},
	"baggage": func(r *http.Request, key string) { r.Header.Set("Baggage", "k="+key) },
	"user agent": func(r *http.Request, key string) {
		r.Header.Set("User-Agent", key)
		r.Header.Set("Referer", "http://x/?"+key)
	},
	"origin": func(r *http.Request, key string) { r.Header.Set("Origin", "https://"+key) },
	"host":   func(r *http.Request, key string) { r.Host = strings.ReplaceAll(key, "_", "-") + ".example.com" },
	"forwarded": func(r *http.Request, key string) {
		r.Header.Set("X-Forwarded-For", key)
		r.Header.Set("Forwarded", "for="+key)
	},
	"media type": func(r *http.Request, key string) { r.Header.Set("Content-Type", "application/json; key="+key) },
	"team":       func(r *http.Request, key string) { r.Header.Set("C1proxy-Team", key) },
	"forged, then true": func(r *http.Request, key string) {
		r.Header["Authorization"] = []string{"Bearer " + callerJWT, "Bearer " + key}
	},
}

// callerJWT is a token of a caller's own, which c1proxy does not take.
const callerJWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYWxsZXItY2FuYXJ5In0.Y2FsbGVyLWNhbmFyeS1zaWduYXR1cmU"

func setBody(r *http.Request, text string) {
	fresh, err := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), strings.NewReader(text))
	if err == nil {
		r.Body, r.GetBody, r.ContentLength = fresh.Body, fresh.GetBody, fresh.ContentLength
	}
}

// misuse calls on every door with keys that stand where they do not belong, once
// with a credential too and once without.
func (p *prey) misuse() {
	for _, door := range []string{"connect", "rest", "grpc", "grpc-web"} {
		for name, put := range misplaced {
			for _, credential := range []string{"", p.keys["signed"]} {
				if name == "body" && credential != "" {
					continue // what a body holds is C1's
				}
				r := p.confirming(door, credential, sandbox.DoneSyncID)
				put(r, p.keys["signed"])
				p.do(r)
			}
		}
		p.do(p.confirming(door, p.keys["signed"], p.keys["signed"])) // as an id, which becomes part of a path
		p.do(p.confirming(door, p.keys["reader"], p.keys["signed"]))
	}
	for _, query := range []string{"pageToken=" + p.keys["signed"], p.keys["signed"], "x=%63" + p.keys["signed"][1:]} {
		r := p.post("api/v1/apps?"+query, p.keys["signed"], "")
		r.Method = http.MethodGet
		p.do(r)
	}
	get := p.post("c1.api.app.v1.ConnectorService/List?connect=v1&encoding=json&message="+url.QueryEscape(`{"`+p.keys["signed"]+`":1}`), p.keys["signed"], "")
	get.Method = http.MethodGet
	p.do(get)
}

// call makes a read and a write for a team on every door.
func (p *prey) call(team string) {
	for _, protocol := range protocols {
		options := append([]connect.ClientOption{connect.WithInterceptors(bearer(p.keys[team]))}, protocol.options...)
		var client connect.HTTPClient = &http.Client{Transport: p.witness}
		if protocol.door == "rest" {
			client = pathsClient{client}
		}
		service := appv1connect.NewConnectorServiceClient(client, p.url, options...)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		_, _ = service.List(ctx, connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: p.facts.AppID}))
		_, _ = service.ConfirmSyncValid(ctx, p.confirmation(confirmable(p.gateway)))
		cancel()
	}
}

// mistreat has C1, its token endpoint and a hostile C1 say what they were told.
func (p *prey) mistreat() {
	for _, status := range []int{200, 400, 401, 403, 404, 409, 422, 500, 502, 503, 429} {
		for _, procedure := range []string{confirmMethod, "c1.api.app.v1.ConnectorService/List"} {
			p.c1.Inject(sandbox.Rule{Fault: sandbox.Echo(status, "upstream"), On: procedure})
		}
		p.call("signed")
		p.call("bound")
		p.call("static")
		p.c1.Heal()
	}
	for i := range rants {
		p.mad.turn.Store(int64(i))
		p.proxy.turn.Store(int64(i))
		p.do(p.confirming("connect", p.keys["proxied"], "x"))
		p.call("mad")
		p.call(fmt.Sprintf("mad-tokens-%d", i))
	}
	for team, status := range map[string]int{"signed": 400, "plain": 401, "federated": 500} {
		p.c1.Heal()
		p.c1.Inject(sandbox.Rule{Fault: sandbox.Echo(status, "upstream"), On: sandbox.TokenEndpoint})
		p.c1.RevokeAll()
		p.call(team)
	}
	p.call("wrong")
	p.call("malformed")
	p.c1.Heal()
}

// watch notes what a running process shows of itself.
func (p *prey) watch(cmd *exec.Cmd) {
	for _, path := range []string{"/metrics", "/readyz", "/livez", "/", "/debug/pprof/", "/debug/vars", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline", "/metrics?key=" + p.keys["signed"]} {
		response, err := http.Get(p.admin + path)
		if err != nil {
			p.t.Fatal(err)
		}
		var text bytes.Buffer
		response.Write(&text)
		response.Body.Close()
		p.note("admin "+path, text.String())
	}
	proc := "/proc/" + strconv.Itoa(cmd.Process.Pid)
	for _, file := range []string{"cmdline", "comm", "status", "mountinfo"} {
		data, err := os.ReadFile(filepath.Join(proc, file))
		if err != nil {
			p.t.Error(err)
		}
		p.note("/proc "+file, string(data))
	}
	children, err := filepath.Glob(proc + "/task/*/children")
	if err != nil || len(children) == 0 {
		p.t.Errorf("no list of children: %v", err)
	}
	for _, file := range children {
		// A thread may have ended since. A child would have the environment.
		if data, _ := os.ReadFile(file); len(bytes.TrimSpace(data)) != 0 {
			p.t.Errorf("the process has children: %s", data)
		}
	}
}

// badConfigs checks configurations in which a secret stands where its reference
// belongs, and elsewhere, several times in each. (As the name of a tenant or a
// team it is shown, if it looks like one: c1proxy cannot tell.)
func (p *prey) badConfigs() {
	data, err := os.ReadFile(filepath.Join(p.root, "c1proxy.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	const plain = "{env: PLAIN_SECRET}"
	hash := authn.HashKey(p.keys["signed"]).String()
	for i, c := range p.canaries {
		for j, changes := range [][]string{
			{plain, "%s", "value: {env: COLLECTOR_KEY}", "value: '%s'", p.collector.URL, "http://u:%s@127.0.0.1", p.c1.URL(), "http://x:%s@c1", hash, "%s", "c1.**/*", "%s"},
			{plain, "'%s'", p.collector.URL, "http://127.0.0.1/?k=%s", "client_id: ", "client_id: '%s', x: ", "teams:", "%s\nteams:"},
			{plain, "{env: '%s'}", p.collector.URL, "%s", "audit: {", "audit: {%s: x, ", "admin: {", "admin: {address: '%s', "},
			{plain, "{file: '%s'}", "name: signed", "name: '%s'", "name: bot", "name: '%s'", "name: x-key", "name: '%s'"},
			{plain, "{file: '/%s', mode: '%s'}", "listen: ", "%s: ", "127.0.0.1:0", "%s:0"},
			{plain, "{value: '%s'}", "{traces:", "{%s:", "true", "%s"},
		} {
			if shape := strings.Contains("WRONG_SECRET client secret subject token key of signed", c.name); j > 0 && !shape {
				continue
			}
			name, text := fmt.Sprintf("bad-%d-%d.yaml", i, j), string(data)
			for k := 0; k < len(changes); k += 2 {
				text = strings.Replace(text, changes[k], strings.ReplaceAll(changes[k+1], "%s", c.text), 1)
			}
			p.write(name, text)
			p.run(false, "config", "check", filepath.Join(p.root, name))
		}
		if strings.HasPrefix(c.name, "key of ") {
			return // the other keys are alike
		}
	}
}

// noteFiles notes every file that the process has made, wherever it could.
func (p *prey) noteFiles(when string, folders ...string) {
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(p.root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			p.note(when+": "+strings.TrimPrefix(path, p.root), string(data))
			return err
		})
		if err != nil {
			p.t.Error(err)
		}
	}
}

// tear leaves half a record at the end of the audit's newest segment, as a crash
// while it is written would.
func (p *prey) tear() {
	segments, err := filepath.Glob(filepath.Join(p.dir, "*.jsonl"))
	if err != nil || len(segments) == 0 {
		p.t.Fatalf("the audit has no segments: %v", err)
	}
	newest := segments[len(segments)-1]
	data, err := os.ReadFile(newest)
	if err != nil {
		p.t.Fatal(err)
	}
	data = bytes.TrimRight(data, "\x00") // what the killed process had taken ahead
	last := data[bytes.LastIndexByte(data[:len(data)-1], '\n')+1:]
	if err := os.WriteFile(newest, append(data, last[:len(last)/2]...), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// P7: whatever is done to it, no secret of c1proxy's or of its callers' leaves
// the process: not in what it prints, writes, answers, measures, traces or shows
// of itself, nor in what it dumps when it is made to.
func TestNoSecretLeaves(t *testing.T) {
	p := newPrey(t)
	serve := []string{"serve", "--config", filepath.Join(p.root, "c1proxy.yaml"), "--log-level", "debug"}
	p.witness = &witness{base: p.httpClient(false).Transport}

	first := p.run(true, serve...)
	for _, team := range append(p.teams[:5:5], "reader", "slow") {
		p.call(team)
	}
	p.misuse()
	p.mistreat()
	p.watch(first)
	p.c1.Inject(sandbox.Rule{Fault: sandbox.Slow(time.Minute), On: confirmMethod})
	go p.do(p.confirming("connect", p.keys["static"], "x")) // under way when the process dies
	until(t, "the collector has spans", func() bool { return len(p.collector.all()) > 0 })
	first.Process.Kill()
	first.Wait()
	p.c1.Heal()
	p.noteFiles("killed", "audit", "work", "tmp")
	p.tear()

	second := p.run(true, serve...)
	p.call("static")
	p.watch(second)
	second.Process.Signal(syscall.SIGQUIT)
	second.Wait()
	third := p.run(true, serve...)
	p.call("static")
	third.Process.Signal(syscall.SIGTERM)
	if err := third.Wait(); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	p.noteFiles("stopped", "audit", "work", "tmp")

	p.badConfigs()
	if err := os.Chmod(filepath.Join(p.root, "signed"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.run(false, serve...)
	p.env = nil
	p.run(false, serve...)
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}, {"version"}, {"config", "schema"}, {"audit", "query", p.dir}, {"audit", "verify", p.dir}} {
		p.run(false, args...)
	}
	p.checkNothingLeft(t)
}

// checkNothingLeft looks for every canary in all that was noted.
func (p *prey) checkNothingLeft(t *testing.T) {
	t.Helper()
	var outputs, api, tokenEndpoint strings.Builder
	for _, out := range p.outputs {
		outputs.WriteString(out.String())
	}
	if !strings.Contains(outputs.String(), "goroutine ") {
		t.Error("SIGQUIT dumped no goroutines")
	}
	tokens := map[string]bool{}
	for _, r := range p.c1.Requests() {
		fmt.Fprintf(&api, "%s %s %s\n", r.Method, r.URI, r.Host)
		r.Header.Write(&api)
		if _, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); token != "" && !tokens[token] && token != p.facts.StaticToken {
			tokens[token] = true
			p.add("access token", token)
		}
	}
	proofs := map[string]bool{}
	for _, r := range append(p.c1.Requests(), p.c1.TokenRequests()...) {
		if proof := r.Header.Get("Dpop"); proof != "" && len(proofs) < 50 && !proofs[proof] {
			proofs[proof] = true
			p.add("DPoP proof", proof)
		}
	}
	assertions := 0
	for _, r := range p.c1.TokenRequests() {
		fmt.Fprintf(&tokenEndpoint, "%s %s\n%s\n", r.Method, r.URI, r.Body)
		r.Header.Write(&tokenEndpoint)
		form, err := url.ParseQuery(string(r.Body))
		if assertion := form.Get("client_assertion"); err == nil && assertion != "" {
			assertions++
			p.add("assertion", assertion)
		}
	}
	key, err := os.ReadFile(filepath.Join(p.root, "audit.key"))
	if err != nil {
		t.Fatal(err)
	}
	p.add("audit's signing key", strings.TrimSpace(string(key)))
	p.canaries = append(p.canaries, canary{"caller's JWT", callerJWT}, canary{"caller's password", "caller-canary-password"},
		canary{"caller's cookie", "caller-canary-cookie"})

	p.note("stdout and stderr", outputs.String())
	p.note("answers", p.witness.text.String())
	p.note("traces", p.collector.raw())
	p.places = append(p.places,
		place{"C1, but for bodies", api.String(), []string{"access token", "DPoP proof", "STATIC_TOKEN"}},
		// The client secret that holds a key is not even sent here.
		place{"C1's token endpoint", tokenEndpoint.String(), []string{"assertion", "DPoP proof", "PLAIN_SECRET", "WRONG_SECRET", "subject token"}},
		place{"the collector's headers", p.collector.header(), []string{"collector's key", "COLLECTOR_KEY"}})
	var needles []needle
	for _, c := range p.canaries {
		needles = append(needles, needlesOf(c)...)
	}
	size := 0
	for _, place := range p.places {
		size += len(place.data)
		if place.data == "" && !strings.Contains(place.name, "tmp") {
			t.Errorf("%s is empty: nothing was searched", place.name)
		}
	}
	hits := hunt(p.places, needles)
	for i, hit := range hits {
		if i < 20 {
			t.Error(hit)
		}
	}
	if len(tokens) == 0 || assertions == 0 || len(proofs) == 0 || p.witness.n < 300 {
		t.Errorf("%d access tokens, %d assertions, %d proofs, %d answers: too little was tried", len(tokens), assertions, len(proofs), p.witness.n)
	}
	t.Logf("%d bytes from %d places searched for %d canaries in %d forms (%d tokens, %d assertions and %d proofs among them; %d answers, %d processes): %d hits",
		size, len(p.places), len(p.canaries), len(needles), len(tokens), assertions, len(proofs), p.witness.n, len(p.outputs), len(hits))
	checkHunt(t, p.places, p.canaries)
}
