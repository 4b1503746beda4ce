package c1proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/gen/c1proxy/v1/c1proxyv1connect"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// withPast has a gateway start with a log that has records of the team payments
// already, of about 4 KB each.
func withPast(n int) func(*setup) {
	return func(s *setup) {
		before := s.facts
		s.facts = func(g *gateway, text string) string {
			l, err := audit.Open(g.t.Context(), audit.Config{Dir: g.dir, KeyFile: filepath.Join(filepath.Dir(g.dir), "audit.key"), SegmentBytes: 1 << 20})
			if err != nil {
				g.t.Fatal(err)
			}
			detail := make(map[string]string)
			for i := range 12 {
				detail[fmt.Sprint("more-", i)] = strings.Repeat("x", 250)
			}
			var writers sync.WaitGroup
			for range 50 {
				writers.Go(func() {
					for range n / 50 {
						if err := l.Append(context.Background(), &audit.Record{Kind: audit.KindDenied, Team: "payments", Caller: "past", Code: "unknown", Detail: detail}); err != nil {
							g.t.Error(err)
						}
					}
				})
			}
			writers.Wait()
			if err := l.Close(); err != nil {
				g.t.Fatal(err)
			}
			if before != nil {
				text = before(g, text)
			}
			return text
		}
	}
}

// again starts a gateway on what another one has left.
func (g *gateway) again() *gateway {
	g.t.Helper()
	next := *g
	cfg, err := config.Parse("test.yaml", []byte(g.text), proxy.Check)
	if err != nil {
		g.t.Fatal(err)
	}
	if next.proxy, err = proxy.Open(g.t.Context(), cfg, proxy.Options{Logger: slog.New(slog.NewJSONHandler(g.logs, nil)), Version: "test"}); err != nil {
		g.t.Fatal(err)
	}
	next.url = "http://" + next.proxy.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- next.proxy.Serve(ctx) }()
	next.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	g.t.Cleanup(next.finish)
	return &next
}

// Tails do not hold a stop up, and go on at the gateway's next life without a gap
// or a record twice.
func TestAuditAPITailRestart(t *testing.T) {
	g := start(t, withAuditors)
	g.someCalls(2)
	from := uint64(0)
	var tails []*tailed
	for _, p := range rpcs {
		tails = append(tails, g.tailing(t, p, auditViews[3], &c1proxyv1.TailRequest{From: &from}), g.tailing(t, p, auditViews[0], &c1proxyv1.TailRequest{From: &from}))
	}
	begun := time.Now()
	if err := g.stop(); err != nil || time.Since(begun) > 3*time.Second {
		t.Errorf("stopped after %v: %v", time.Since(begun), err)
	}
	for i, tail := range tails {
		for tail.receive() {
		}
		if err := tail.stream.Err(); reasonOf(err) != "STREAM_ENDED" || !strings.Contains(err.Error(), "c1proxy stops") {
			t.Errorf("tail %d ended with %v", i, err)
		}
	}
	next := g.again()
	next.someCalls(2)
	for i, tail := range tails {
		v := []auditView{auditViews[3], auditViews[0]}[i%2]
		more := next.tailing(t, rpcs[i/2], v, &c1proxyv1.TailRequest{From: &tail.next})
		all := next.all(audit.Filter{Team: v.team})
		last := all[len(all)-1].Seq
		more.upTo(last)
		got, want := slices.Concat(tail.numbers, more.numbers), []uint64(nil)
		for _, r := range all {
			want = append(want, r.Seq)
		}
		if got = got[:min(len(got), len(want))]; !slices.Equal(got, want) {
			t.Errorf("tail %d: got %v, want %v", i, got, want)
		}
		_ = more.stream.Close()
	}
}

// A tail lives on over HTTP/1.1 and HTTP/2, longer than a message may take, and
// tells so.
func TestAuditAPITailLives(t *testing.T) {
	t.Parallel()
	g := start(t, withAuditors)
	var quiet sync.WaitGroup
	for _, http1 := range []bool{true, false} {
		for _, p := range rpcs[:2] {
			client := c1proxyv1connect.NewAuditServiceClient(g.httpClient(http1), g.url, append([]connect.ClientOption{connect.WithInterceptors(tokened(g.keys["slow-bot"]))}, p.options...)...)
			quiet.Go(func() {
				stream, err := client.Tail(t.Context(), connect.NewRequest(&c1proxyv1.TailRequest{Filter: &c1proxyv1.RecordFilter{Event: "none"}}))
				if err != nil {
					t.Error(err)
					return
				}
				defer stream.Close()
				begun, last := time.Now(), time.Now()
				for beats := 0; beats < 3; beats++ {
					if !stream.Receive() {
						t.Errorf("%s, HTTP/1.1 %v: it ended after %v: %v", p.name, http1, time.Since(begun), stream.Err())
						return
					}
					if since := time.Since(last); since > 15*time.Second || len(stream.Msg().GetRecords()) != 0 {
						t.Errorf("%s: after %v: %v", p.name, since, stream.Msg())
					}
					last = time.Now()
				}
			})
		}
	}
	quiet.Wait()
}

// A caller that does not take what is sent is cut off, on record, while others are
// served.
func TestAuditAPITailSlow(t *testing.T) {
	t.Parallel()
	g := start(t, withAuditors, withPast(5000))
	g.deafTail(t, g.keys["sync-bot"])
	begun := time.Now()
	ended := func() []audit.Record {
		return g.all(audit.Filter{Method: "c1proxy.v1.AuditService/Tail", Kind: audit.KindOutcome})
	}
	for len(ended()) == 0 && time.Since(begun) < 2*time.Minute {
		if err := g.list(); err != nil {
			t.Error(err)
		}
		time.Sleep(200 * time.Millisecond) // others call meanwhile, and not all the time
	}
	if records := ended(); len(records) != 1 || records[0].Outcome != audit.OutcomeFailed || records[0].Error != "DEADLINE_EXCEEDED" ||
		records[0].Duration < 25*time.Second || records[0].Duration > 45*time.Second {
		t.Errorf("after %v: on record as %+v", time.Since(begun), records)
	}
}

// A tail ends with its caller's credential: a key, a token, a certificate. With each
// of them a grant counts, for the team that the call is made for.
func TestAuditAPIProofs(t *testing.T) {
	t.Parallel()
	edge := newEdge(t)
	var certificate tls.Certificate
	g := start(t, withAuditors, func(s *setup) {
		before := s.facts
		s.facts = func(g *gateway, text string) string {
			text = edge.configure(before(g, text))
			both := "        oidc: {issuer: login, subject: both}\n        mtls: {uri_san: \"spiffe://example.com/both\"}\n"
			text = replaced(t, text, "      - name: sync-bot\n", "      - name: both\n        grants: [auditor]\n"+both+"      - name: sync-bot\n")
			return replaced(t, text, "      - name: slow-bot\n", "      - name: both\n"+both+"      - name: slow-bot\n")
		}
	})
	g.insecure = &tls.Config{InsecureSkipVerify: true}
	edge.await(g)
	certificate = edge.clients.issue(nil, "spiffe://example.com/both")
	g.keys["token"] = edge.issuer.token("first", nil, map[string]any{"sub": "both"})
	for _, p := range rpcs {
		for _, proof := range []string{"token", "certificate"} {
			for team, all := range map[string]bool{"payments": true, "slow": false} {
				client := g.httpClient(false)
				key := g.keys["token"]
				if proof == "certificate" {
					key = ""
					client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{certificate}
				}
				asking := c1proxyv1connect.NewAuditServiceClient(client, g.url, append([]connect.ClientOption{connect.WithInterceptors(tokened(key))}, p.options...)...)
				q := connect.NewRequest(&c1proxyv1.QueryRequest{})
				q.Header().Set("C1proxy-Team", team)
				response, err := asking.Query(t.Context(), q)
				if err != nil || response.Msg.GetAllTeams() != all {
					t.Errorf("%s with a %s for team %s: %v, %v", p.name, proof, team, response, err)
				}
			}
		}
	}
	// From here on the credentials have 8 s: what comes before takes its time.
	now := time.Now()
	ends := now.Add(8 * time.Second)
	g.keys["ending token"] = edge.issuer.token("first", nil, map[string]any{"sub": "both", "iat": now.Add(-time.Minute).Unix(), "exp": ends.Add(-30 * time.Second).Unix()}) // which is the leeway
	hash := authn.HashKey(g.keys["sync-bot"])
	if err := g.reload(replaced(t, g.text, fmt.Sprintf("sha256: %q}", hash), fmt.Sprintf("sha256: %q, expires: %q}", hash, ends.UTC().Format(time.RFC3339)))); err != nil {
		t.Fatal(err)
	}
	var tails sync.WaitGroup
	for _, p := range rpcs {
		for _, key := range []string{"sync-bot", "ending token"} {
			tails.Go(func() {
				q := connect.NewRequest(&c1proxyv1.TailRequest{})
				if key != "sync-bot" {
					q.Header().Set("C1proxy-Team", "payments")
				}
				stream, err := g.auditing(p, key, false).Tail(t.Context(), q)
				if err != nil {
					t.Error(err)
					return
				}
				defer stream.Close()
				messages := 0
				for stream.Receive() {
					messages++
				}
				if err := stream.Err(); messages == 0 || codeOf(err) != connect.CodeUnauthenticated || reasonOf(err) != "UNAUTHENTICATED" || !strings.Contains(err.Error(), "expired") {
					t.Errorf("%s with %s: %d messages, %v", p.name, key, messages, err)
				}
			})
		}
	}
	tails.Wait()
}

// What retention has removed is told as such, and what is damaged too, without a
// path; the log says where it is.
func TestAuditAPIDamage(t *testing.T) {
	g := start(t, withAuditors, withPast(1000), func(s *setup) {
		before := s.facts
		s.facts = func(g *gateway, text string) string {
			return replaced(t, before(g, text), `audit.key"}`, `audit.key", segment_bytes: 1048576, retain: {bytes: 2097152}}`)
		}
	})
	var first uint64
	until(t, "retention has removed something", func() bool {
		records := g.all(audit.Filter{})
		first = records[0].Seq
		return first > 0
	})
	from := uint64(0)
	for _, p := range rpcs {
		client := g.auditing(p, "reader", false)
		stream, err := client.Tail(t.Context(), connect.NewRequest(&c1proxyv1.TailRequest{From: &from}))
		if err == nil && !stream.Receive() {
			err = stream.Err()
		}
		if codeOf(err) != connect.CodeOutOfRange || reasonOf(err) != "RECORD_NOT_FOUND" || !strings.Contains(err.Error(), "the oldest one that is left is ") {
			t.Errorf("%s: a tail from a removed record: %v", p.name, err)
		}
		beyond := uint64(1 << 40)
		stream, err = client.Tail(t.Context(), connect.NewRequest(&c1proxyv1.TailRequest{From: &beyond}))
		if err == nil && !stream.Receive() {
			err = stream.Err()
		}
		if codeOf(err) != connect.CodeOutOfRange || !strings.Contains(err.Error(), "the next record of this log is ") {
			t.Errorf("%s: a tail from beyond: %v", p.name, err)
		}
		_, err = client.Prove(t.Context(), connect.NewRequest(&c1proxyv1.ProveRequest{}))
		if codeOf(err) != connect.CodeNotFound || reasonOf(err) != "RECORD_NOT_FOUND" || !strings.Contains(err.Error(), "retention has removed the record 0") {
			t.Errorf("%s: a proof of a removed record: %v", p.name, err)
		}
	}
	if err := g.proxy.SealAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(g.dir, "*.jsonl"))
	name := names[len(names)-2]
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	bad := slices.Clone(good)
	bad[len(bad)-100] = 0
	if err := os.WriteFile(name, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range rpcs {
		response, err := g.auditing(p, "reader", false).Query(t.Context(), connect.NewRequest(&c1proxyv1.QueryRequest{PageSize: 1000}))
		if codeOf(err) != connect.CodeDataLoss || reasonOf(err) != "AUDIT_UNREADABLE" || strings.Contains(err.Error(), "jsonl") {
			t.Errorf("%s: %v, %v", p.name, response, err)
		}
		logged := false
		for line := range strings.Lines(g.logs.String()) {
			var l map[string]any
			logged = logged || json.Unmarshal([]byte(line), &l) == nil && l["request_id"] == requestID(response, err) && strings.Contains(line, filepath.Base(name))
		}
		if !logged {
			t.Errorf("%s: the log does not say where", p.name)
		}
	}
	if err := os.WriteFile(name, good, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A bad configuration of grants is refused, and a reload gives and takes them.
func TestAuditAPIGrants(t *testing.T) {
	g := start(t, withAuditors)
	all := func() bool {
		response, err := g.auditing(protocols[0], "reader", false).Query(t.Context(), connect.NewRequest(&c1proxyv1.QueryRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		return response.Msg.GetAllTeams()
	}
	if !all() {
		t.Error("the grant does not count")
	}
	if err := g.reload(replaced(t, g.text, "        grants: [auditor]\n", "")); err != nil || all() {
		t.Errorf("taken away, it counts: %v", err)
	}
	if err := g.reload(g.text); err != nil || !all() {
		t.Errorf("given again, it does not count: %v", err)
	}
	if err := g.reload(replaced(t, g.text, "grants: [auditor]", "grants: [everything]")); err == nil || !strings.Contains(err.Error(), "grants[0]: must be auditor") {
		t.Errorf("a grant that there is not: %v", err)
	}
}

// A tail of a log that is away ends as one that may be begun again, and is on record
// when the log is back.
func TestAuditAPITailAway(t *testing.T) {
	g := start(t, withAuditors)
	var tails []*tailed
	for _, p := range rpcs {
		tails = append(tails, g.tailing(t, p, auditViews[0], &c1proxyv1.TailRequest{}))
	}
	g.breakAudit()
	for i, tail := range tails {
		for tail.receive() {
		}
		if err := tail.stream.Err(); codeOf(err) != connect.CodeUnavailable || reasonOf(err) != "AUDIT_UNAVAILABLE" && reasonOf(err) != "AUDIT_UNREADABLE" { // as it is noticed
			t.Errorf("%s: %v", rpcs[i].name, err)
		}
	}
	g.mendAudit()
	until(t, "the ends are on record", func() bool {
		ends := g.all(audit.Filter{Method: "AuditService/Tail", Kind: audit.KindOutcome, Outcome: audit.OutcomeFailed, Error: "AUDIT_UNREADABLE"})
		return len(ends) == len(rpcs)
	})
}

// deafTail begins a tail over HTTP/1.1 of which nothing is taken.
func (g *gateway) deafTail(t *testing.T, key string) {
	t.Helper()
	body := `{"from":"0"}`
	r := g.post("c1proxy.v1.AuditService/Tail", key, "")
	r.Header.Set("Content-Type", "application/connect+json")
	r.Body = io.NopCloser(bytes.NewReader(append([]byte{0, 0, 0, 0, byte(len(body))}, body...)))
	r.ContentLength = int64(5 + len(body))
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
}

// Callers who do not take what is sent hold no stop up either.
func TestAuditAPITailDeaf(t *testing.T) {
	g := start(t, withAuditors, withPast(5000))
	for range 4 {
		g.deafTail(t, g.keys["sync-bot"])
	}
	tails := func(kind audit.Kind) []audit.Record {
		return g.all(audit.Filter{Method: "c1proxy.v1.AuditService/Tail", Kind: kind})
	}
	until(t, "all tails have begun", func() bool { return len(tails(audit.KindIntent)) == 4 })
	time.Sleep(2 * time.Second) // nothing tells when there is no more room for what is sent
	begun := time.Now()
	if err := g.stop(); err != nil || time.Since(begun) > 5*time.Second {
		t.Errorf("stopped after %v: %v", time.Since(begun), err)
	}
	for _, r := range tails(audit.KindOutcome) {
		if r.Error != "STREAM_ENDED" || r.Outcome != audit.OutcomeOK {
			t.Errorf("on record as %+v", r)
		}
	}
}

// However large what is on record is, pages and messages are not, and tails that
// catch up together all do.
func TestAuditAPILarge(t *testing.T) {
	g := start(t, withAuditors, withPast(1000))
	all := g.all(audit.Filter{Caller: "past"})
	client := g.auditing(protocols[1], "sync-bot", false)
	response, err := client.Query(t.Context(), connect.NewRequest(&c1proxyv1.QueryRequest{PageSize: 1000, Filter: &c1proxyv1.RecordFilter{Caller: "past"}}))
	if err != nil || response.Msg.GetNextPageToken() == "" || proto.Size(response.Msg) > 256<<10 || proto.Size(response.Msg) < 128<<10 {
		t.Errorf("a page of %d records in %d bytes, %v", len(response.Msg.GetRecords()), proto.Size(response.Msg), err)
	}
	if n := len(g.walk(client, &c1proxyv1.RecordFilter{Caller: "past"}, 1000, func() {})); n != len(all) {
		t.Errorf("%d records on all pages, want %d", n, len(all))
	}
	var tails sync.WaitGroup
	for range 4 {
		tails.Go(func() {
			from, next, n := uint64(0), uint64(0), 0
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			stream, err := client.Tail(ctx, connect.NewRequest(&c1proxyv1.TailRequest{From: &from, Filter: &c1proxyv1.RecordFilter{Caller: "past"}}))
			if err != nil {
				t.Error(err)
				return
			}
			defer stream.Close()
			for n < len(all) && stream.Receive() {
				m := stream.Msg()
				if size := proto.Size(m); size > 300<<10 {
					t.Errorf("a message of %d bytes", size)
				}
				for _, r := range m.GetRecords() {
					if r.GetSeq() != all[n].Seq || r.GetSeq() < next || r.GetSeq() >= m.GetNext() {
						t.Errorf("record %d between %d and %d, want %d", r.GetSeq(), next, m.GetNext(), all[n].Seq)
						return
					}
					n++
				}
				next = m.GetNext()
			}
			if n < len(all) {
				t.Errorf("%d records: %v", n, stream.Err())
			}
		})
	}
	tails.Wait()
}

// The record of a question names whom and what kind it asks about, not the values.
func TestAuditAPINoted(t *testing.T) {
	g := start(t, withAuditors)
	asked := &c1proxyv1.RecordFilter{Team: "slow", Caller: "slow-bot", Method: "List", Kind: "denied", RequestId: "looked-for", Values: []*c1proxyv1.NamedValue{{Value: "looked-for"}}}
	client := g.auditing(protocols[1], "reader", false)
	response, err := client.Query(t.Context(), connect.NewRequest(&c1proxyv1.QueryRequest{Filter: asked}))
	query := g.records(requestID(response, err))
	from := uint64(0)
	tail := g.tailing(t, protocols[1], auditViews[2], &c1proxyv1.TailRequest{Filter: asked, From: &from})
	_ = tail.stream.Close()
	until(t, "the tail has ended", func() bool {
		return len(g.all(audit.Filter{Method: "AuditService/Tail", Kind: audit.KindOutcome})) == 1
	})
	proof, err := client.Prove(t.Context(), connect.NewRequest(&c1proxyv1.ProveRequest{Seq: 1}))
	names := "team=slow caller=slow-bot method=List kind=denied"
	for want, records := range map[string][]audit.Record{names: query, names + " from=0": g.all(audit.Filter{Method: "AuditService/Tail"}), "seq=1": g.records(requestID(proof, err))} {
		if len(records) != 2 {
			t.Errorf("%s: %+v", want, records)
		}
		for _, r := range records {
			var got []string
			for _, f := range r.Request {
				got = append(got, f.Name+"="+f.Value)
			}
			if line, err := r.MarshalJSON(); err != nil || strings.Join(got, " ") != want || strings.Contains(string(line), "looked-for") {
				t.Errorf("on record as %s, want %s", line, want)
			}
		}
	}
}

// A caller has four questions under way until it takes the answers. Others, and those
// who watch over all, are not kept from asking by it.
func TestAuditAPIQuestions(t *testing.T) {
	t.Parallel()
	g := start(t, withAuditors, withPast(1000))
	h := dialH2(t, g.url, false, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	defer h.conn.Close()
	var streams []uint32
	for range 6 {
		stream := h.open("/c1proxy.v1.AuditService/Query", g.keys["sync-bot"], "application/json")
		h.framer.WriteData(stream, true, []byte(`{"pageSize":1000}`))
		streams = append(streams, stream)
	}
	h.out.Flush()
	statuses := map[string]int{}
	until(t, "all are answered, or refused", func() bool {
		clear(statuses)
		for _, stream := range streams {
			statuses[h.field(stream, ":status")]++
		}
		return statuses[""] == 0
	})
	if statuses["200"] != 4 || statuses["429"] != 2 {
		t.Errorf("answers that are not taken: %v", statuses)
	}
	for _, v := range auditViews[1:] {
		if _, err := g.auditing(protocols[0], v.key, v.admin).Query(t.Context(), connect.NewRequest(&c1proxyv1.QueryRequest{})); err != nil {
			t.Errorf("%s meanwhile: %v", v.key, err)
		}
	}
	h.framer.WriteWindowUpdate(0, 1<<24)
	for _, stream := range streams {
		h.framer.WriteWindowUpdate(stream, 1<<24)
	}
	h.out.Flush()
	until(t, "all are taken", func() bool { return h.answered() == len(streams) })
	until(t, "there is a place again", func() bool {
		_, err := g.auditing(protocols[0], "sync-bot", false).Query(t.Context(), connect.NewRequest(&c1proxyv1.QueryRequest{}))
		return err == nil
	})
	if refused := g.all(audit.Filter{Error: "AUDIT_BUSY", Kind: audit.KindDenied}); len(refused) < 2 {
		t.Errorf("on record: %+v", refused)
	}
}

// What connect refuses of a stream is on record as it is answered.
func TestAuditAPITailTooLarge(t *testing.T) {
	t.Parallel()
	g := start(t, withAuditors)
	for i, p := range rpcs {
		stream, err := g.auditing(p, "sync-bot", false).Tail(t.Context(), connect.NewRequest(&c1proxyv1.TailRequest{Filter: &c1proxyv1.RecordFilter{Method: strings.Repeat("a", 4<<20)}}))
		if err == nil && !stream.Receive() {
			err = stream.Err()
		}
		if codeOf(err) != connect.CodeResourceExhausted {
			t.Errorf("%s: %v", p.name, err)
		}
		records := g.all(audit.Filter{Method: "AuditService/Tail"})
		if len(records) != i+1 || records[i].Code != "resource_exhausted" || records[i].Error != "TOO_LARGE" {
			t.Errorf("%s: on record as %+v", p.name, records[len(records)-1])
		}
	}
}
