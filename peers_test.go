package c1proxy_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
)

// listening changes the keys of listen.
func listening(keys string) func(*setup) {
	return func(s *setup) {
		s.yaml = func(text string) string {
			return strings.Replace(text, `listen: {address: "127.0.0.1:0"`, `listen: {address: "127.0.0.1:0", `+keys, 1)
		}
	}
}

// fails makes a call with a key that nobody has, from where the headers say, and
// returns its reason and its record.
func (g *gateway) fails(client *http.Client, header http.Header) (reason string, record audit.Record) {
	g.t.Helper()
	r := g.post(listMethod, authn.NewKey(), "{}")
	for name, values := range header {
		r.Header[name] = values
	}
	_, answer, body := do(g.t, client, r)
	for _, word := range []string{"TOO_MANY_FAILURES", "UNAUTHENTICATED"} {
		if strings.Contains(body, word) {
			reason = word
			break
		}
	}
	if records := g.records(answer.Get("X-Request-Id")); len(records) == 1 {
		record = records[0]
	}
	return reason, record
}

// E2, P10: whatever headers say, the totals are the same, unless the connection is
// a trusted proxy's.
func TestSpoofedPeers(t *testing.T) {
	names := []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Envoy-External-Address", "X_forwarded_for"}
	for setting, word := range map[string]string{"": "no proxy is trusted", ", trusted_proxies: [10.0.0.0/8]": "another proxy is trusted"} {
		g := start(t, listening("failed_auth: {rate: 1, per: 1h, burst: 5}"+setting))
		client := g.httpClient(true)
		passed := 0
		for i := range 40 {
			header := http.Header{}
			for j, name := range names {
				if i%len(names) == j {
					value := fmt.Sprintf("203.0.113.%d", i)
					if name == "Forwarded" {
						value = "for=" + value
					}
					header[name] = []string{value}
				}
			}
			reason, record := g.fails(client, header)
			if reason == "UNAUTHENTICATED" {
				passed++
			}
			if record.Kind != audit.KindDenied || record.Error != reason || !strings.HasPrefix(record.Peer, "127.0.0.1:") || record.Detail["proxy"] != "" {
				t.Errorf("%s: %s, %+v", word, reason, record)
			}
		}
		if passed != 5 {
			t.Errorf("%s: %d of 40 calls were told that they failed, want 5", word, passed)
		}
	}
}

// Behind a trusted proxy each peer has its own limit, by the rightmost address that
// is no proxy's; what does not read is the proxy's own; and the record tells both.
func TestForwardedPeers(t *testing.T) {
	g := start(t, listening(`failed_auth: {rate: 1, per: 1h, burst: 2}, trusted_proxies: [127.0.0.1, 10.0.0.0/8, "2001:db8:7::/48"]`))
	client := g.httpClient(true)
	for _, tt := range []struct {
		name   string
		values []string
		peer   string // "" for the connection
	}{
		{"one", []string{"203.0.113.1"}, "203.0.113.1"},
		{"the caller's invention before it", []string{"1.1.1.1, x, 203.0.113.2"}, "203.0.113.2"},
		{"proxies after it", []string{"1.1.1.1, 203.0.113.3, 10.0.0.1,10.9.9.9"}, "203.0.113.3"},
		{"in two lines", []string{"9.9.9.9", "203.0.113.4 , 10.0.0.1", "2001:db8:7::1"}, "203.0.113.4"},
		{"proxies alone", []string{"10.0.0.7, 10.0.0.1"}, "10.0.0.7"},
		{"with a port", []string{"203.0.113.5:4711"}, "203.0.113.5"},
		{"IPv6", []string{"2001:db8:1::1"}, "2001:db8:1::1"},
		{"IPv6 with a port", []string{"[2001:db8:2::1]:4711"}, "2001:db8:2::1"},
		{"IPv4 in IPv6's form", []string{"::ffff:203.0.113.6"}, "203.0.113.6"},
		{"a proxy in IPv6's form", []string{"203.0.113.7, ::ffff:10.0.0.1"}, "203.0.113.7"},
	} {
		for i, want := range []string{"UNAUTHENTICATED", "UNAUTHENTICATED", "TOO_MANY_FAILURES"} {
			reason, record := g.fails(client, http.Header{"X-Forwarded-For": tt.values, "Forwarded": {"for=192.0.2.1"}})
			if reason != want || record.Peer != tt.peer || !strings.HasPrefix(record.Detail["proxy"], "127.0.0.1:") {
				t.Errorf("%s, call %d: %s, want %s; %+v", tt.name, i, reason, want, record)
			}
		}
	}
	// All of these are the connection's own, together.
	passed := 0
	for _, values := range [][]string{nil, {""}, {"unknown"}, {"203.0.113.9,"}, {"203.0.113.9, x, 10.0.0.1"}, {"203.0.113.9;"}, {"300.1.1.1"}, {"_hidden"}, {strings.Repeat(",", 1000)}} {
		reason, record := g.fails(client, http.Header{"X-Forwarded-For": values})
		if reason == "UNAUTHENTICATED" {
			passed++
		}
		if !strings.HasPrefix(record.Peer, "127.0.0.1:") || record.Detail["proxy"] != "" {
			t.Errorf("%q: %+v", values, record)
		}
	}
	if passed != 2 {
		t.Errorf("%d calls were told that they failed, want 2", passed)
	}
	// The addresses of one /64 are one peer; the next /64 is another.
	for i, want := range []string{"UNAUTHENTICATED", "UNAUTHENTICATED", "TOO_MANY_FAILURES", "TOO_MANY_FAILURES"} {
		if reason, _ := g.fails(client, http.Header{"X-Forwarded-For": {fmt.Sprintf("2001:db8:9:9:%x::1", i)}}); reason != want {
			t.Errorf("address %d of a /64: %s, want %s", i, reason, want)
		}
	}
	if reason, _ := g.fails(client, http.Header{"X-Forwarded-For": {"2001:db8:9:a::1"}}); reason != "UNAUTHENTICATED" {
		t.Errorf("the next /64: %s", reason)
	}
}

// A forwarded address decides nothing else: a caller's rate limit is the same from
// wherever it is said to call.
func TestForwardedPeerIsNoCaller(t *testing.T) {
	g := start(t, listening(`trusted_proxies: [127.0.0.1]`))
	passed := 0
	for i := range 20 {
		r := g.post(listMethod, g.keys["slow-bot"], `{"appId":"`+g.facts.AppID+`"}`)
		r.Header.Set("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i))
		if status, _, _ := do(t, g.httpClient(true), r); status == http.StatusOK {
			passed++
		}
	}
	if passed != 1 {
		t.Errorf("%d calls passed a limit of one", passed)
	}
}

// A peer over its limit is refused on every door in the caller's own form, and told
// when to return; a good key from there passes on each; and successes, which are
// not counted, do not use the limit up.
func TestFailuresOnEveryDoor(t *testing.T) {
	g := start(t, listening("failed_auth: {rate: 1, per: 1h, burst: 3}"))
	list := func(p protocol, key string) (*connect.Response[appv1.ConnectorServiceListResponse], error) {
		return g.client(p, key).List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
	}
	for range 4 {
		for _, p := range protocols {
			if _, err := list(p, "sync-bot"); err != nil {
				t.Fatalf("a good call: %v", err)
			}
		}
	}
	g.keys["stranger"] = authn.NewKey()
	for range 3 {
		if _, err := list(protocols[0], "stranger"); reasonOf(err) != "UNAUTHENTICATED" {
			t.Fatalf("within the limit: %v", err)
		}
	}
	hits := g.c1.Hits()
	for _, p := range protocols {
		for _, caller := range []string{"stranger", ""} {
			response, err := list(p, caller)
			delay := detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration()
			if codeOf(err) != connect.CodeResourceExhausted || reasonOf(err) != "TOO_MANY_FAILURES" || delay < 59*time.Minute || delay > time.Hour {
				t.Errorf("%s, %q: %v, to return in %v", p.name, caller, err, delay)
			}
			records := g.records(requestID(response, err))
			if len(records) != 1 || records[0].Error != "TOO_MANY_FAILURES" || records[0].Door != p.door || records[0].Outcome != audit.OutcomeNotSent {
				t.Errorf("%s, %q: records %+v", p.name, caller, records)
			}
		}
	}
	if g.c1.Hits() != hits {
		t.Error("refused calls reached C1")
	}
	for _, p := range protocols {
		if _, err := list(p, "sync-bot"); err != nil {
			t.Errorf("%s: a good key from a peer over its limit: %v", p.name, err)
		}
		if _, err := g.client(p, "reader").ConfirmSyncValid(t.Context(), g.confirmation("x")); reasonOf(err) != "METHOD_DENIED" {
			t.Errorf("%s: what the policy denies is no failure to authenticate: %v", p.name, err)
		}
	}
}

// From a peer over its limit a token that was verified of late passes, and a client
// certificate; a new token does not, and nothing of it is verified, nor is its
// issuer asked.
func TestFailuresAndTokens(t *testing.T) {
	s := startShared(t, func(i *issuerServer) { i.listen = ", failed_auth: {rate: 1, per: 1h, burst: 2}" })
	known := proof{name: "known token", bearer: []string{s.issuer.token("first", nil, nil)}}
	if _, err := s.try(protocols[0], known, false); err != nil {
		t.Fatal(err)
	}
	// A good token of nobody's is a failure, as a bad one is.
	for _, change := range []map[string]any{{"sub": "nobody"}, {"aud": "other"}} {
		if _, err := s.try(protocols[0], proof{bearer: []string{s.issuer.token("first", nil, change)}}, false); reasonOf(err) == "" {
			t.Fatalf("%v passes", change)
		}
	}
	hits := s.issuer.hits
	for _, p := range protocols {
		for want, proofs := range map[string][]proof{
			"": {known, {name: "key", bearer: []string{s.keys["sync-bot"]}}, {name: "certificate", certificate: pointer(s.clients.issue(nil, syncURI))}},
			"TOO_MANY_FAILURES": {{name: "new token", bearer: []string{s.issuer.token("first", nil, map[string]any{"n": p.name})}},
				{name: "token by an unknown key", bearer: []string{s.issuer.token("second", newKey(t), nil)}},
				{name: "expired token", bearer: []string{s.issuer.token("first", nil, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})}},
				{name: "nothing"}, {name: "two", bearer: []string{s.keys["sync-bot"], s.keys["sync-bot"]}}},
		} {
			for _, proof := range proofs {
				if record, err := s.try(p, proof, false); reasonOf(err) != want || record.Error != want {
					t.Errorf("%s by %s: %v, want %q; %+v", p.name, proof.name, err, want, record)
				}
			}
		}
	}
	if s.issuer.hits != hits {
		t.Errorf("the issuer was asked %d times", s.issuer.hits-hits)
	}
	tls := s.insecure.Clone() // who has no certificate, and no header, is a stranger
	if reason, _ := s.fails(&http.Client{Transport: &http.Transport{TLSClientConfig: tls}}, nil); reason != "TOO_MANY_FAILURES" {
		t.Errorf("a stranger: %s", reason)
	}
}

// A flood of failures is answered, and its records are shared; the limit is on by
// default, and is told in the metrics.
func TestFailuresAreLimitedByDefault(t *testing.T) {
	g := start(t, listening("failed_auth: {}"))
	client := g.httpClient(true)
	reasons := make(map[string]int)
	begun := time.Now()
	for range 400 {
		_, _, body := do(t, client, g.post(listMethod, "c1p_x", "{}"))
		for _, word := range []string{"TOO_MANY_FAILURES", "UNAUTHENTICATED"} {
			if strings.Contains(body, word) {
				reasons[word]++
				break
			}
		}
	}
	most := 100 + int(time.Since(begun)/time.Second) + 1
	if got := reasons["UNAUTHENTICATED"]; got < 100 || got > most || got+reasons["TOO_MANY_FAILURES"] != 400 {
		t.Errorf("%v, want from 100 to %d unauthenticated", reasons, most)
	}
	if m := g.metrics(); !strings.Contains(m, fmt.Sprintf("c1proxy_faults_total{reason=\"TOO_MANY_FAILURES\"} %d", reasons["TOO_MANY_FAILURES"])) {
		t.Error(grep(m, "faults"))
	}
	until(t, "the last record is written", func() bool {
		n := 0
		for _, records := range allRecords(t, g) {
			n += len(records)
		}
		shared := 0
		_ = audit.Query(t.Context(), g.dir, audit.Filter{Kind: audit.KindDenied}, func(r audit.Record) error {
			if count, err := strconv.Atoi(r.Detail["count"]); err == nil {
				shared += count
			}
			return nil
		})
		return n+shared == 400
	})
}
