package forward_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoregistry"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/gate"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/sandbox"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

const confirm = "c1.api.app.v1.ConnectorService/ConfirmSyncValid"

func confirmRoute(t *testing.T) *route.Route {
	t.Helper()
	routes, err := route.Load(protoregistry.GlobalFiles, protoregistry.GlobalTypes, "c1.")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Method() == confirm {
			return r
		}
	}
	t.Fatal("no route")
	return nil
}

// upstream makes an Upstream for a C1 at a URL, which TLS is trusted if there
// is a certificate.
func upstream(t *testing.T, at, clientID, secret string, certPEM []byte, timeout time.Duration) *forward.Upstream {
	t.Helper()
	base, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	var trust *tls.Config
	if certPEM != nil {
		trust = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		trust.RootCAs.AppendCertsFromPEM(certPEM)
	}
	transport := &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	source, err := credential.New(credential.Config{Tenant: "acme", URL: base, ClientID: clientID,
		ClientSecret: func() (string, error) { return secret, nil }, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	way, err := forward.NewTransport(forward.TransportConfig{CAFile: caFile(t, certPEM)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.CloseIdleConnections)
	return forward.New(forward.Config{Tenant: "acme", URL: base, Tokens: source, UserAgent: "c1proxy/test", Logger: slog.New(slog.DiscardHandler), Transport: way,
		Gate: gate.New(gate.Config{Slots: 64, Teams: []string{"payments"}}), Timeout: timeout, ResendOn401: true})
}

// caFile writes authorities to a file; "" for none.
func caFile(t *testing.T, certPEM []byte) string {
	t.Helper()
	if certPEM == nil {
		return ""
	}
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, certPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// send confirms a sync, from prepare to the answer.
func send(t *testing.T, u *forward.Upstream, sync string) (forward.Result, *fault.Fault) {
	t.Helper()
	r := confirmRoute(t)
	target, err := transcode.Request(r, &appv1.ConfirmSyncValidRequest{AppId: sandbox.AppID, ConnectorId: sandbox.ConnectorID, SyncLifecycleId: sync})
	if err != nil {
		t.Fatal(err)
	}
	exchange, err := u.Prepare(t.Context(), forward.Call{Route: r, Target: target, RequestID: "request", Team: "payments"})
	if err != nil {
		t.Fatal(err)
	}
	result, err := exchange.Send(t.Context())
	if err == nil {
		if _, _, err := transcode.Answer(result.Body, r.Output); err != nil {
			return result, fault.Unusable(r.ReadOnly, result.Status, "not an answer")
		}
		return result, nil
	}
	var f *fault.Fault
	if !errors.As(err, &f) {
		t.Fatalf("%v is no fault", err)
	}
	return result, f
}

// P4, P5: whatever goes wrong, C1 accepts a confirmation at most once, and
// "unavailable" means never.
func TestDelivery(t *testing.T) {
	elsewhere, err := sandbox.Start("127.0.0.1:0", sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	held := make(chan struct{})
	defer close(held)
	tests := []struct {
		name  string
		fault sandbox.Fault
		code  connect.Code // 0 for success
	}{
		{"none", sandbox.Fault{}, 0},
		{"401 once", sandbox.Unauthorized(), 0},
		{"403", sandbox.Failing(403), connect.CodePermissionDenied},
		{"404", sandbox.Failing(404), connect.CodeNotFound},
		{"409", sandbox.Failing(409), connect.CodeAborted},
		{"412", sandbox.Failing(412), connect.CodeFailedPrecondition},
		{"422", sandbox.Failing(422), connect.CodeInvalidArgument},
		{"429", sandbox.RateLimited("3"), connect.CodeResourceExhausted},
		{"429 with nonsense", sandbox.RateLimited("soon"), connect.CodeResourceExhausted},
		{"429 for ever", sandbox.RateLimited("1000000000"), connect.CodeResourceExhausted},
		{"500", sandbox.Failing(500), connect.CodeUnknown},
		{"500 after acting", sandbox.Failing(500).AfterActing(), connect.CodeUnknown},
		{"502", sandbox.HTML(502), connect.CodeUnknown},
		{"503", sandbox.Failing(503), connect.CodeUnknown},
		{"503 after acting", sandbox.Failing(503).AfterActing(), connect.CodeUnknown},
		{"504", sandbox.Failing(504), connect.CodeUnknown},
		{"page", sandbox.HTML(200), connect.CodeUnknown},
		{"empty", sandbox.Empty(), connect.CodeUnknown},
		{"truncated", sandbox.Truncated(), connect.CodeUnknown},
		{"cut", sandbox.CutBody(), connect.CodeUnknown},
		{"reset", sandbox.Reset(), connect.CodeUnknown},
		{"reset after acting", sandbox.Reset().AfterActing(), connect.CodeUnknown},
		{"reset unread", sandbox.ResetUnread(), connect.CodeUnknown},
		{"disconnect", sandbox.Disconnect(), connect.CodeUnknown},
		{"disconnect after acting", sandbox.Disconnect().AfterActing(), connect.CodeUnknown},
		{"held", sandbox.Held(held), connect.CodeDeadlineExceeded},
		{"stalled body", sandbox.StalledBody(held), connect.CodeDeadlineExceeded},
		{"drip", sandbox.Drip(5 * time.Second), connect.CodeDeadlineExceeded},
		{"short length", sandbox.ShortLength(), connect.CodeUnknown},
		{"unknown field", sandbox.UnknownField(), 0},
		{"duplicate key", sandbox.DuplicateKey(), connect.CodeUnknown},
		{"huge", sandbox.Huge(16), connect.CodeUnknown},
		{"bomb", sandbox.GzipBomb(32), connect.CodeUnknown},
		{"nested", sandbox.Nested(100_000), connect.CodeUnknown},
		{"301", sandbox.Redirect(301, elsewhere.URL()+"/x"), connect.CodeUnknown},
		{"307", sandbox.Redirect(307, elsewhere.URL()+"/x"), connect.CodeUnknown},
		{"code 17", sandbox.RPCStatus(400, 17, "x"), connect.CodeInvalidArgument},
		{"code 0", sandbox.RPCStatus(500, 0, "x"), connect.CodeUnknown},
		{"code 14", sandbox.RPCStatus(409, 14, "x"), connect.CodeAborted},
	}
	var checked atomic.Int64
	deliver := func(t *testing.T, https bool, bad sandbox.Fault, want connect.Code) {
		c1, err := sandbox.Start("127.0.0.1:0", sandbox.Config{TLS: https})
		if err != nil {
			t.Fatal(err)
		}
		facts := c1.Facts()
		timeout := 30 * time.Second
		if want == connect.CodeDeadlineExceeded {
			timeout = 2 * time.Second
		}
		u := upstream(t, c1.URL(), facts.ClientID, facts.ClientSecret, c1.CertPEM(), timeout)
		// On a connection that has been used: what net/http resends, it
		// resends there.
		if _, f := send(t, u, sandbox.ConfirmablePrefix+"0"); f != nil {
			t.Fatal(f)
		}
		c1.Reset()
		c1.Inject(sandbox.Rule{Fault: bad, On: confirm, Times: 1})
		result, f := send(t, u, sandbox.ConfirmablePrefix+"1")
		code := connect.Code(0)
		if f != nil {
			code = f.Code
		}
		if code != want {
			t.Errorf("got %v, want %v", f, want)
		}
		if accepted, acts := c1.AcceptedHits(), c1.Acts(confirm); accepted > 1 || acts > 1 {
			t.Errorf("C1 accepted %d deliveries and acted %d times", accepted, acts)
		}
		if wire := c1.Hits(); wire != len(result.Attempts) || wire > 2 {
			t.Errorf("%d requests on the wire, attempts %v", wire, result.Attempts)
		}
		if proto := c1.Requests()[0].Proto; https != (proto == "HTTP/2.0") {
			t.Errorf("sent by %s", proto)
		}
		if err := c1.Close(); err != nil {
			t.Error(err)
		}
		checked.Add(1)
	}
	t.Run("all", func(t *testing.T) {
		for _, https := range []bool{false, true} {
			for _, tt := range tests {
				t.Run(tt.name+map[bool]string{false: " HTTP-1.1", true: " HTTP-2"}[https], func(t *testing.T) {
					if tt.code == connect.CodeDeadlineExceeded {
						t.Parallel() // these wait
					}
					deliver(t, https, tt.fault, tt.code)
				})
			}
		}
	})
	if hits := elsewhere.Hits() + elsewhere.TokenHits(); hits != 0 {
		t.Errorf("%d requests followed a redirect", hits)
	}
	t.Logf("%d faults, none delivered twice", checked.Load())
}

// What net/http resends by itself on HTTP/2 unless it is stopped: not with any
// verb that has side effects, a DELETE included. A read is tried again, by us.
func TestNothingIsResent(t *testing.T) {
	wires, calls := 0, 0
	for class, r := range classes(t) {
		for _, reaction := range []sandbox.Reaction{sandbox.RefuseStream, sandbox.GoAwayUnprocessed, sandbox.GoAwayProcessed,
			sandbox.ResetCancel, sandbox.ResetInternal, sandbox.CloseConnection} {
			c1, err := sandbox.StartFramer("127.0.0.1:0", sandbox.FramerConfig{TLS: true, Reactions: []sandbox.Reaction{reaction, sandbox.Respond}})
			if err != nil {
				t.Fatal(err)
			}
			u := upstream(t, c1.URL(), "a@127.0.0.1/spc", "secret", c1.CertPEM(), 5*time.Second)
			_, f := call(t, u, r)
			if r.ReadOnly && f != nil {
				t.Errorf("%s, reaction %d: got %v, want success at last", class, reaction, f)
			}
			if !r.ReadOnly {
				calls++
				wires += len(c1.Requests())
				if f == nil || f.Code != connect.CodeUnknown || len(c1.Requests()) != 1 {
					t.Errorf("%s, reaction %d: got %v, want unknown; on the wire: %v", class, reaction, f, c1.Requests())
				}
			}
			if err := c1.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("%d calls with side effects, %d requests on the wire", calls, wires)
}

// What net/http resends by itself on a connection that has been used, and that
// dies as the request comes: nothing that has side effects, whatever its verb.
func TestNothingIsResentOnUsedConnections(t *testing.T) {
	faults := []sandbox.Fault{sandbox.ResetUnread(), sandbox.Reset(), sandbox.Disconnect(), sandbox.Failing(503), sandbox.CutBody()}
	wires, calls := 0, 0
	for _, https := range []bool{false, true} {
		c1, err := sandbox.Start("127.0.0.1:0", sandbox.Config{TLS: https, Stateless: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c1.Close()
		facts := c1.Facts()
		for class, r := range classes(t) {
			if r.ReadOnly {
				continue
			}
			u := upstream(t, c1.URL(), facts.ClientID, facts.ClientSecret, c1.CertPEM(), 5*time.Second)
			for _, bad := range faults {
				for _, prior := range []int{1, 2} { // the second time, nothing is new
					if _, f := call(t, u, r); f != nil {
						t.Fatalf("%s: %v", class, f)
					}
					c1.Reset()
					c1.Inject(sandbox.Rule{Fault: bad, On: r.Method(), Times: 1})
					result, f := call(t, u, r)
					calls++
					wires += c1.Hits()
					if f == nil || f.Code != connect.CodeUnknown || c1.Hits() != 1 || len(result.Attempts) != 1 {
						t.Errorf("%s, %v, %d, HTTPS %v: got %v; %d on the wire", class, bad, prior, https, f, c1.Hits())
					}
				}
			}
		}
	}
	t.Logf("%d calls with side effects, %d requests on the wire", calls, wires)
}

// F9: a token that is refused is fetched anew once, by however many callers;
// one that is refused again is our fault and not the caller's.
func TestRefusedToken(t *testing.T) {
	c1, err := sandbox.Start("127.0.0.1:0", sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c1.Close()
	facts := c1.Facts()
	u := upstream(t, c1.URL(), facts.ClientID, facts.ClientSecret, nil, 5*time.Second)
	if _, f := send(t, u, sandbox.ConfirmablePrefix+"0"); f != nil {
		t.Fatal(f)
	}
	c1.RevokeAll()
	if result, f := send(t, u, sandbox.ConfirmablePrefix+"1"); f != nil || len(result.Attempts) != 2 || result.Attempts[0] != 401 {
		t.Errorf("after a revocation: %v, attempts %v", f, result.Attempts)
	}
	c1.Reset()
	c1.Inject(sandbox.Rule{Fault: sandbox.Unauthorized(), On: confirm})
	result, f := send(t, u, sandbox.ConfirmablePrefix+"2")
	if f == nil || f.Code != connect.CodeInternal || f.Reason != fault.UpstreamCredentialRejected || c1.Hits() != 2 {
		t.Errorf("always 401: %v, attempts %v", f, result.Attempts)
	}
}

// No byte of an upstream body that is no C1 error, and no secret of ours in
// one that is, reaches the caller.
func TestEchoedSecrets(t *testing.T) {
	c1, err := sandbox.Start("127.0.0.1:0", sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c1.Close()
	facts := c1.Facts()
	u := upstream(t, c1.URL(), facts.ClientID, facts.ClientSecret, nil, 5*time.Second)
	for _, status := range []int{400, 403, 404, 409, 422, 500, 503, 429} {
		c1.Reset()
		c1.Inject(sandbox.Rule{Fault: sandbox.Echo(status, "canary"), On: confirm, Times: 1})
		_, f := send(t, u, sandbox.ConfirmablePrefix+"0")
		if f == nil {
			t.Fatalf("%d passed", status)
		}
		sent := c1.Requests()[0].Header.Get("Authorization")
		_, token, _ := strings.Cut(sent, " ")
		if text := f.Connect().Error() + f.Error(); token == "" || strings.Contains(text, token) {
			t.Errorf("%d: the token came back: %s", status, text)
		}
	}
}

// A deadline of the context bounds an exchange as the timeout does.
func TestSendHonoursContext(t *testing.T) {
	c1, err := sandbox.Start("127.0.0.1:0", sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c1.Close()
	facts := c1.Facts()
	u := upstream(t, c1.URL(), facts.ClientID, facts.ClientSecret, nil, time.Minute)
	release := make(chan struct{})
	defer close(release)
	c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirm})
	r := confirmRoute(t)
	target, err := transcode.Request(r, &appv1.ConfirmSyncValidRequest{AppId: "a", ConnectorId: "b", SyncLifecycleId: "c"})
	if err != nil {
		t.Fatal(err)
	}
	exchange, err := u.Prepare(t.Context(), forward.Call{Route: r, Target: target, RequestID: "request", Team: "payments"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	result, err := exchange.Send(ctx)
	if f := fault.Of(err); f == nil || f.Code != connect.CodeDeadlineExceeded || !result.Sent {
		t.Errorf("got %v, sent %v", err, result.Sent)
	}
}
