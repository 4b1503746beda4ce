package c1proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// A deliveryFault is what befalls one confirmation, and what its caller is told.
type deliveryFault struct {
	fault sandbox.Fault
	code  connect.Code
}

// deliveryFaults are all that can befall a request between its headers and the
// end of its answer.
func deliveryFaults(held <-chan struct{}, elsewhere string) []deliveryFault {
	faults := []deliveryFault{
		{sandbox.Fault{}, 0}, {sandbox.Unauthorized(), 0}, {sandbox.UnknownField(), 0}, {sandbox.UnknownEnum(), 0},
		{sandbox.Failing(400), connect.CodeInvalidArgument}, {sandbox.Failing(422), connect.CodeInvalidArgument},
		{sandbox.Failing(403), connect.CodePermissionDenied}, {sandbox.Failing(404), connect.CodeNotFound},
		{sandbox.Failing(405), connect.CodeUnimplemented}, {sandbox.Failing(409), connect.CodeAborted},
		{sandbox.Failing(412), connect.CodeFailedPrecondition}, {sandbox.RateLimited("1"), connect.CodeResourceExhausted},
		{sandbox.RateLimited("soon"), connect.CodeResourceExhausted}, {sandbox.RateLimited("1000000000"), connect.CodeResourceExhausted},
		{sandbox.RateLimited("Tue, 24 Nov 2099 00:00:00 GMT"), connect.CodeResourceExhausted},
		{sandbox.RPCStatus(400, 17, "x"), connect.CodeInvalidArgument}, {sandbox.RPCStatus(409, 14, "x"), connect.CodeAborted},
		{sandbox.RPCStatus(503, 14, "x"), connect.CodeUnknown}, {sandbox.RPCStatus(500, 0, "x"), connect.CodeUnknown},
		{sandbox.Held(held), connect.CodeDeadlineExceeded}, {sandbox.StalledBody(held), connect.CodeDeadlineExceeded},
		{sandbox.Drip(5 * time.Second), connect.CodeDeadlineExceeded},
	}
	unknown := []sandbox.Fault{
		sandbox.Failing(408), sandbox.Failing(500), sandbox.Failing(501), sandbox.Failing(502), sandbox.Failing(503), sandbox.Failing(504),
		sandbox.HTML(500), sandbox.HTML(502), sandbox.HTML(503), sandbox.HTML(200), sandbox.Empty(), sandbox.Truncated(), sandbox.CutBody(),
		sandbox.ShortLength(), sandbox.Reset(), sandbox.ResetUnread(), sandbox.Disconnect(), sandbox.Huge(16), sandbox.GzipBomb(32),
		sandbox.Nested(100_000), sandbox.DuplicateKey(), sandbox.Echo(500, "canary"),
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		unknown = append(unknown, sandbox.Redirect(status, elsewhere))
	}
	for _, f := range unknown {
		faults = append(faults, deliveryFault{f, connect.CodeUnknown})
		if acted := f.AfterActing(); acted.String() != f.String() {
			faults = append(faults, deliveryFault{acted, connect.CodeUnknown})
		}
	}
	return faults
}

// A deliveryCount adds up what P4 and P5 are about.
type deliveryCount struct {
	calls, most, unavailable, broken int
}

// add checks what became of one call that has side effects: accepted deliveries
// of it, and what its caller and its record say.
func (n *deliveryCount) add(t *testing.T, name string, accepted int, err error) {
	t.Helper()
	n.calls++
	n.most = max(n.most, accepted)
	if accepted > 1 {
		t.Errorf("%s: %d deliveries were accepted", name, accepted)
	}
	if err != nil && connect.CodeOf(err) == connect.CodeUnavailable {
		n.unavailable++
		if accepted > 0 {
			n.broken++
			t.Errorf("%s: unavailable, though it was delivered: %v", name, err)
		}
	}
}

func codeOf(err error) connect.Code {
	if err == nil {
		return 0
	}
	return connect.CodeOf(err)
}

// P4, P5, over groups A, B and G: whatever befalls a call with side effects, on
// HTTP/1.1 and on HTTP/2, and whichever door it came through, C1 accepts it at
// most once; `unavailable` is only said of what it did not accept; and the
// record has each attempt.
func TestDelivery(t *testing.T) {
	elsewhere, err := sandbox.Start("127.0.0.1:0", sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	held := make(chan struct{})
	var n deliveryCount
	for _, https := range []bool{false, true} {
		begin := func(keys ...string) *gateway {
			return start(t, func(s *setup) { s.c1.TLS, s.keys = https, keys })
		}
		patient, hasty := begin(), begin("timeout: 1s")
		until(t, "a call has been in time", func() bool { return hasty.list() == nil })
		for i, tt := range deliveryFaults(held, elsewhere.URL()+"/x") {
			g := patient
			if tt.code == connect.CodeDeadlineExceeded {
				g = hasty
			}
			warm(g) // a used connection, and a C1 that is known to be alive
			sync := confirmable(g)
			g.c1.Reset()
			g.c1.Inject(sandbox.Rule{Fault: tt.fault, On: confirmMethod, Times: 1})
			p := protocols[i%len(protocols)]
			name := fmt.Sprintf("%q, HTTPS %v, %s", tt.fault, https, p.name)
			response, err := g.client(p, "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation(sync))
			n.add(t, name, g.c1.AcceptedHits(), err)
			if code := codeOf(err); code != tt.code || err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: got %v, want %v", name, err, tt.code)
			}
			checkDelivery(t, g, name, requestID(response, err), https)
			g.c1.Heal()
			if tt.code == connect.CodeResourceExhausted {
				patient = begin() // C1 is not called again for up to an hour
			}
		}
		if https {
			close(held)
		}
	}
	refusals(t, &n)
	goneAway(t, &n)
	if hits := elsewhere.Hits() + elsewhere.TokenHits(); hits != 0 {
		t.Errorf("%d requests followed a redirect", hits)
	}
	t.Logf("P4: %d calls, at most %d accepted delivery of each", n.calls, n.most)
	t.Logf("P5: %d answers unavailable, %d of them with an accepted delivery", n.unavailable, n.broken)
}

// checkDelivery holds the record of a call against what C1 saw of it.
func checkDelivery(t *testing.T, g *gateway, name, id string, https bool) {
	t.Helper()
	records := g.records(id)
	if len(records) != 2 || records[0].Kind != audit.KindIntent || records[1].Kind != audit.KindOutcome {
		t.Errorf("%s: records %+v", name, records)
		return
	}
	last := records[1]
	if len(last.Attempts) != g.c1.Hits() || g.c1.Hits() > 2 || g.c1.Hits() == 2 && last.Attempts[0] != 401 {
		t.Errorf("%s: %d requests on the wire, attempts %v", name, g.c1.Hits(), last.Attempts)
	}
	if acted := g.c1.Acts(confirmMethod) > 0; acted && (last.Outcome == audit.OutcomeNotSent || last.Outcome == audit.OutcomeFailed) {
		t.Errorf("%s: it acted, and its outcome is %s", name, last.Outcome)
	}
	if proto := g.c1.Requests()[0].Proto; https != (proto == "HTTP/2.0") {
		t.Errorf("%s: sent by %s", name, proto)
	}
}

// fixedToken gives the tenant an access token instead of what it would exchange
// for one, so that calls reach whatever stands at its URL.
func fixedToken(t *testing.T) func(string) string {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(text string) string {
		before, after, _ := strings.Cut(text, "      client_id:")
		_, after, _ = strings.Cut(after, "teams:\n")
		return before + "      access_token: {file: " + file + "}\nteams:\n" + after
	}
}

// refusals are G1: there is no connection, for whatever reason. Nothing was
// sent, and that is what is said.
func refusals(t *testing.T, n *deliveryCount) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	untrusted, err := sandbox.Start("127.0.0.1:0", sandbox.Config{TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer untrusted.Close()
	for name, at := range map[string]string{
		"refused": "http://" + closed.Addr().String(), "certificate": untrusted.URL(),
		"no such host": "https://c1.invalid", "clear text where TLS is spoken": strings.Replace(untrusted.URL(), "https", "http", 1),
	} {
		g := start(t, func(s *setup) {
			s.tenant, s.yaml = at, fixedToken(t)
			if name == "certificate" || name == "no such host" {
				s.keys = []string{"timeout: 5s"}
			}
		})
		for _, p := range protocols {
			response, err := g.client(p, "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation("x"))
			n.add(t, name, untrusted.AcceptedHits(), err)
			if name == "clear text where TLS is spoken" { // a connection was had: it may have been C1
				if codeOf(err) != connect.CodeUnknown && codeOf(err) != connect.CodeInvalidArgument {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			records := g.records(requestID(response, err))
			if reasonOf(err) != "UPSTREAM_UNREACHABLE" || len(records) != 2 || records[1].Outcome != audit.OutcomeNotSent || !slices.Equal(records[1].Attempts, []int{0}) {
				t.Errorf("%s, %s: %v, records %+v", name, p.name, err, records)
			}
		}
	}
	if untrusted.Hits() != 0 {
		t.Errorf("%d requests reached a C1 that nobody vouches for", untrusted.Hits())
	}
}

// goneAway are G2 and G3 on HTTP/2, as only single frames can do them.
func goneAway(t *testing.T, n *deliveryCount) {
	for _, reaction := range []sandbox.Reaction{sandbox.RefuseStream, sandbox.GoAwayUnprocessed, sandbox.GoAwayProcessed,
		sandbox.ResetCancel, sandbox.ResetInternal, sandbox.CloseConnection} {
		c1, err := sandbox.StartFramer("127.0.0.1:0", sandbox.FramerConfig{TLS: true, Reactions: []sandbox.Reaction{reaction, sandbox.Respond}})
		if err != nil {
			t.Fatal(err)
		}
		defer c1.Close()
		file := filepath.Join(t.TempDir(), "framer.pem")
		if err := os.WriteFile(file, c1.CertPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		g := start(t, func(s *setup) { s.tenant, s.keys = c1.URL(), []string{"ca_file: " + file} })
		_, err = g.client(protocols[int(reaction)%len(protocols)], "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation("x"))
		n.add(t, fmt.Sprint("reaction ", reaction), len(c1.Requests()), err)
		if codeOf(err) != connect.CodeUnknown || reasonOf(err) != "OUTCOME_UNKNOWN" {
			t.Errorf("reaction %d: %v", reaction, err)
		}
	}
}

// Reads, and only reads, are tried again, and their records tell of it.
func TestReadsAreRetried(t *testing.T) {
	for _, https := range []bool{false, true} {
		g := start(t, func(s *setup) { s.c1.TLS = https })
		warm(g)
		client := g.client(protocols[2], "sync-bot")
		request := connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID})
		for _, bad := range []sandbox.Fault{sandbox.Failing(502), sandbox.HTML(503), sandbox.Failing(504), sandbox.Disconnect(), sandbox.CutBody()} {
			g.c1.Reset()
			g.c1.Inject(sandbox.Rule{Fault: bad, On: listMethod, Times: 2})
			response, err := client.List(t.Context(), request)
			records := g.records(requestID(response, err))
			if err != nil || len(records) != 2 || len(records[1].Attempts) != g.c1.Hits() || records[1].UpstreamStatus != 200 {
				t.Errorf("%q, HTTPS %v: %v, records %+v", bad, https, err, records)
			}
			ids := make(map[string]bool)
			for _, seen := range g.c1.Requests() {
				ids[seen.Header.Get("X-Request-Id")] = true
			}
			if g.c1.Hits() != 3 || len(ids) != 1 {
				t.Errorf("%q, HTTPS %v: C1 saw %d requests with %d ids", bad, https, g.c1.Hits(), len(ids))
			}
		}
		for _, status := range []int{500, 404, 429} {
			g.c1.Reset()
			g.c1.Inject(sandbox.Rule{Fault: sandbox.Failing(status), On: listMethod, Times: 1})
			if _, err := client.List(t.Context(), request); err == nil || g.c1.Hits() != 1 {
				t.Errorf("%d: %v, %d requests", status, err, g.c1.Hits())
			}
		}
		if body := g.metrics(); !strings.Contains(body, `c1proxy_retries_total{tenant="acme"}`) || strings.Contains(body, `c1proxy_retries_total{tenant="acme"} 0`) {
			t.Errorf("metrics: %s", grep(body, "retries"))
		}
	}
}

// A read ends with its caller, on the way to C1 too; its record says that
// nobody knows the answer.
func TestReadEndsWithItsCaller(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"canceled": 0, "deadline": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			g := start(t)
			warm(g)
			g.c1.Reset()
			left := make(chan error, 1)
			g.c1.Inject(sandbox.Rule{On: listMethod, Times: 1, Fault: sandbox.Held(nil), If: func(r *http.Request) bool {
				context.AfterFunc(r.Context(), func() { left <- r.Context().Err() })
				return true
			}})
			ctx, cancel := context.WithCancel(t.Context())
			if timeout > 0 {
				ctx, cancel = context.WithTimeout(t.Context(), timeout)
			}
			defer cancel()
			failed := make(chan error, 1)
			go func() {
				_, err := g.client(protocols[2], "sync-bot").List(ctx, connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
				failed <- err
			}()
			soon, stop := context.WithTimeout(t.Context(), 30*time.Second)
			defer stop()
			if err := g.c1.AwaitHits(soon, 1); err != nil {
				t.Fatal(err)
			}
			if timeout == 0 {
				cancel()
			}
			if err := <-failed; !errors.Is(err, context.Canceled) && codeOf(err) != connect.CodeDeadlineExceeded && codeOf(err) != connect.CodeCanceled {
				t.Errorf("got %v", err)
			}
			select {
			case <-left:
			case <-time.After(10 * time.Second):
				t.Error("the request to C1 goes on without a caller")
			}
			id := g.c1.Requests()[0].Header.Get("X-Request-Id")
			until(t, "the outcome is on record", func() bool { return len(g.records(id)) == 2 })
			if last := g.records(id)[1]; last.Outcome != audit.OutcomeIndeterminate || !last.ClientGone || g.c1.Hits() != 1 {
				t.Errorf("outcome %+v, %d requests", last, g.c1.Hits())
			}
		})
	}
}

// G17: no time, too little, nonsense and more than there is, on every door.
func TestDeadlines(t *testing.T) {
	g := start(t, func(s *setup) { s.keys = []string{"timeout: 1s"} })
	warm(g)
	release := make(chan struct{})
	defer close(release)
	for _, tt := range []struct {
		header, value string
		want          string // the code, as the door writes it
		hits          int
	}{
		{"Connect-Timeout-Ms", "0", `504 "deadline_exceeded"`, 0},
		{"Connect-Timeout-Ms", "1", `504 "deadline_exceeded"`, 0},
		{"Connect-Timeout-Ms", "4", `504 "deadline_exceeded"`, 0},
		{"Connect-Timeout-Ms", "-1", `400 "invalid_argument"`, 0},
		{"Connect-Timeout-Ms", "soon", `400 "invalid_argument"`, 0},
		{"Connect-Timeout-Ms", "9999999999", `504 "deadline_exceeded"`, 1},
		{"Grpc-Timeout", "0n", "200 4", 0},
		{"Grpc-Timeout", "1m", "200 4", 0},
		{"Grpc-Timeout", "99999999H", "200 4", 1},
	} {
		g.c1.Heal()
		g.c1.Reset()
		g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
		got, id := g.hurry(tt.header, tt.value)
		name := tt.header + ": " + tt.value
		if !strings.HasPrefix(got, tt.want) || g.c1.Hits() != tt.hits {
			t.Errorf("%s: got %s, %d requests; want %s, %d", name, got, g.c1.Hits(), tt.want, tt.hits)
		}
		records := g.records(id)
		if tt.hits == 0 && (len(records) != 1 || records[0].Kind != audit.KindDenied) || tt.hits == 1 && len(records) != 2 {
			t.Errorf("%s: records %+v", name, records)
		}
	}
}

// hurry asks for a confirmation in raw bytes, with a header that says how long
// it may take. The answer's HTTP status and code come back, and its request id.
func (g *gateway) hurry(header, value string) (got, id string) {
	r := g.post(confirmMethod, g.keys["sync-bot"], g.confirmJSON(g.facts.SyncLifecycleID))
	client, grpc := g.httpClient(true), header == "Grpc-Timeout"
	if grpc {
		data, err := proto.Marshal(g.confirmation(g.facts.SyncLifecycleID).Msg)
		if err != nil {
			g.t.Fatal(err)
		}
		r = g.post(confirmMethod, g.keys["sync-bot"], string([]byte{0, 0, 0, byte(len(data) >> 8), byte(len(data))})+string(data))
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("Te", "trailers")
		client = g.httpClient(false)
	}
	r.Header.Set(header, value)
	response, err := client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	code := strings.TrimPrefix(string(body), `{"code":`)
	if grpc {
		code = response.Header.Get("Grpc-Status") + response.Trailer.Get("Grpc-Status")
	}
	return fmt.Sprintf("%d %s", response.StatusCode, code), response.Header.Get("X-Request-Id")
}

// P6 through a door, with the smaller number: whatever the ids, C1 sees the
// exact path, or nothing.
func TestNoPathEscapes(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	bits := []string{"a", "7", "-", "~", ".", "..", "/", `\`, "%", "%2f", "%2e%2e", "?", "#", ";", "&", "@", ":", "+", " ", "\r\n", "\x00", "é", "／", strings.Repeat("a", 200)}
	g := start(t, func(s *setup) { s.c1.Remember = 1 })
	client := g.client(protocols[0], "sync-bot")
	sent, refused := 0, 0
	for range 2000 {
		var ids [3]string
		for i := range ids {
			for range 1 + random.IntN(2) {
				ids[i] += bits[random.IntN(len(bits))]
			}
			if random.IntN(2) == 0 {
				ids[i] = "plain"
			}
		}
		before := g.c1.Hits()
		_, err := client.ConfirmSyncValid(t.Context(), connect.NewRequest(&appv1.ConfirmSyncValidRequest{AppId: ids[0], ConnectorId: ids[1], SyncLifecycleId: ids[2]}))
		if g.c1.Hits() == before {
			refused++
			if reasonOf(err) != "BAD_PATH_VALUE" {
				t.Fatalf("seed %d: %q: %v", seed, ids, err)
			}
			continue
		}
		sent++
		requests := g.c1.Requests()
		parts := strings.Split(requests[len(requests)-1].URI, "/")
		want := []string{"", "api", "v1", "apps", ids[0], "connectors", ids[1], "confirm_sync_valid", ids[2]}
		for i, part := range parts {
			if text, err := url.PathUnescape(part); len(parts) != len(want) || err != nil || text != want[i] || strings.ContainsAny(text, `/\%?#;`) {
				t.Fatalf("seed %d: %q: C1 saw %s", seed, ids, requests[len(requests)-1].URI)
			}
		}
	}
	t.Logf("P6: seed %d: %d calls with hostile ids, %d sent with the exact path, %d refused, 0 escaped (all operations: internal/forward)", seed, sent+refused, sent, refused)
	if sent < 100 || refused < 100 {
		t.Error("too little was tried")
	}
}

// What a server says unasked is bytes of an answer: net/http's client would
// write them to the standard logger, and so to the log.
func TestNothingOfAnAnswerIsLogged(t *testing.T) {
	g := &gateway{t: t, dir: filepath.Join(t.TempDir(), "audit"), keys: map[string]string{}}
	var err error
	if g.c1, err = sandbox.Start("127.0.0.1:0", sandbox.Config{}); err != nil {
		t.Fatal(err)
	}
	defer g.c1.Close()
	g.facts = g.c1.Facts()
	configFile := filepath.Join(filepath.Dir(g.dir), "c1proxy.yaml")
	if err := os.WriteFile(configFile, []byte(g.configuration(g.c1.URL())), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serveBinary(t, configFile)
	g.url = p.url
	for range 20 {
		g.c1.Inject(sandbox.Rule{Fault: sandbox.ShortLength(), On: listMethod, Times: 1})
		if err := g.list(); err == nil {
			t.Error("half of an answer passed for the whole")
		}
		g.c1.Heal()
		if err := g.list(); err != nil {
			t.Error(err)
		}
	}
	p.kill()
	if text := p.stderr.String(); strings.Contains(text, "Unsolicited") || !strings.Contains(text, "a call failed") || strings.Contains(text, g.facts.ConnectorID) {
		t.Errorf("log: %s", text)
	}
}
