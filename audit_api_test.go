package c1proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/gen/c1proxy/v1/c1proxyv1connect"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
)

// tokened shows a key in every call, streams too.
type tokened string

func (key tokened) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return bearer(string(key)).WrapUnary(next)
}

func (key tokened) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		if key != "" {
			conn.RequestHeader().Set("Authorization", "Bearer "+string(key))
		}
		return conn
	}
}

func (key tokened) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// auditing is a client of the audit's API, at the address for callers or at the
// admin listener's.
func (g *gateway) auditing(p protocol, key string, admin bool) c1proxyv1connect.AuditServiceClient {
	url := g.url
	if admin {
		url = "http://" + g.proxy.AdminAddr().String()
	}
	options := append([]connect.ClientOption{connect.WithInterceptors(tokened(g.keys[key]))}, p.options...)
	return c1proxyv1connect.NewAuditServiceClient(g.httpClient(false), url, options...)
}

// An auditView is somebody who asks about the audit, and what of it they see.
type auditView struct {
	key   string
	admin bool
	team  string // "" for all
}

var auditViews = []auditView{{"sync-bot", false, "payments"}, {"slow-bot", false, "slow"}, {"reader", false, ""}, {"watcher", true, ""}}

// withAuditors has the reader see all teams' records, and an operator.
func withAuditors(s *setup) {
	withOperators(s)
	operators := s.facts
	s.facts = func(g *gateway, text string) string {
		text = operators(g, text)
		g.keys["watcher"] = authn.NewKey()
		text = replaced(g.t, text, "127.0.0.1:0\", keys: [{", fmt.Sprintf("127.0.0.1:0\", keys: [{name: watcher, sha256: %q, scopes: [audit]}, {", authn.HashKey(g.keys["watcher"])))
		text = replaced(g.t, text, "caller: {rate: 1, per: 3600s, burst: 1}", "caller: {rate: 1000, per: 1s, burst: 10000}")
		return replaced(g.t, text, "- name: reader\n", "- name: reader\n        grants: [auditor]\n")
	}
}

// all are all records of the log that the view sees, by number.
func (g *gateway) all(f audit.Filter) (records []audit.Record) {
	g.t.Helper()
	err := audit.Query(context.Background(), g.dir, f, func(r audit.Record) error {
		records = append(records, r)
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return records
}

// numbersOf are the records' numbers.
func numbersOf(records []*c1proxyv1.Record) (numbers []uint64) {
	for _, r := range records {
		numbers = append(numbers, r.GetSeq())
	}
	return numbers
}

// walk asks for all pages of a filter.
func (g *gateway) walk(client c1proxyv1connect.AuditServiceClient, f *c1proxyv1.RecordFilter, size int32, between func()) (all []*c1proxyv1.Record) {
	g.t.Helper()
	q := &c1proxyv1.QueryRequest{Filter: f, PageSize: size}
	for {
		response, err := client.Query(g.t.Context(), connect.NewRequest(q))
		if err != nil {
			g.t.Fatalf("%v: %v", q, err)
		}
		if n := len(response.Msg.GetRecords()); n > int(size) {
			g.t.Fatalf("%d records on a page of %d", n, size)
		}
		all = append(all, response.Msg.GetRecords()...)
		if q.PageToken = response.Msg.GetNextPageToken(); q.PageToken == "" {
			return all
		}
		between()
	}
}

// someCalls makes calls of several teams, and of nobody.
func (g *gateway) someCalls(n int) {
	g.t.Helper()
	client := g.httpClient(true)
	for range n {
		for _, caller := range []string{"sync-bot", "slow-bot", "reader", ""} {
			do(g.t, client, g.post(connectorService+"List", g.keys[caller], `{"appId":"`+g.facts.AppID+`"}`))
		}
	}
}

// Query walks through the log from its end, on every door and for everybody, and
// pages stay what they are while the log grows.
func TestAuditAPIQuery(t *testing.T) {
	g := start(t, withAuditors)
	g.someCalls(20)
	for _, p := range rpcs {
		for _, v := range auditViews {
			client := g.auditing(p, v.key, v.admin)
			before := g.all(audit.Filter{Team: v.team})
			last := before[len(before)-1].Seq
			grown := 0
			got := g.walk(client, nil, 30, func() {
				if grown++; grown < 3 {
					g.someCalls(1)
				}
			})
			got = slices.DeleteFunc(got, func(r *c1proxyv1.Record) bool { return r.GetSeq() > last })
			var want []uint64
			for _, r := range slices.Backward(before) {
				want = append(want, r.Seq)
			}
			if diff := cmp.Diff(want, numbersOf(got)); diff != "" {
				t.Errorf("%s, %s: %s", p.name, v.key, diff)
			}
		}
	}
	g.checkRules(t)
}

// checkRules expects that each of the calls so far is on record by its rule.
func (g *gateway) checkRules(t *testing.T) {
	t.Helper()
	for caller, rule := range map[string]string{"sync-bot": "self", "slow-bot": "self", "reader": "auditor", "watcher": "admin/audit"} {
		records := g.all(audit.Filter{Caller: caller, Method: "c1proxy.v1.AuditService/*"})
		if len(records) == 0 {
			t.Errorf("%s: none on record", caller)
		}
		for _, r := range records {
			if r.Rule != rule {
				t.Errorf("%s: on record by %q, want %q: %+v", caller, r.Rule, rule, r)
			}
		}
	}
}

// A record has all that the log has of it.
func TestAuditAPIRecord(t *testing.T) {
	g := start(t, withAuditors)
	request := g.confirmation("s")
	request.Header().Set("X-Request-Id", "mine")
	request.Header().Set("C1proxy-Reason", "it%20is%20due")
	response, err := g.client(protocols[0], "sync-bot").ConfirmSyncValid(t.Context(), request)
	id := requestID(response, err)
	answer, err := g.auditing(protocols[0], "sync-bot", false).Query(t.Context(), connect.NewRequest(&c1proxyv1.QueryRequest{Filter: &c1proxyv1.RecordFilter{RequestId: id}}))
	if err != nil || len(answer.Msg.GetRecords()) != 2 || answer.Msg.GetLog() == "" || answer.Msg.GetAllTeams() {
		t.Fatalf("%v, %v", answer, err)
	}
	records := g.records(id)
	for i, got := range answer.Msg.GetRecords() {
		r := records[1-i]
		want := &c1proxyv1.Record{Seq: r.Seq, Id: r.ID, Time: timestamppb.New(r.Time), Kind: string(r.Kind), RequestId: id, Intent: r.Intent, ClientRequestId: "mine",
			Caller: "sync-bot", Team: "payments", Tenant: "acme", Credential: r.Credential, Procedure: confirmMethod, Door: "connect", Peer: r.Peer,
			PolicyRevision: r.PolicyRevision, Rule: r.Rule, Reason: "it is due", Error: r.Error, Field: r.Field, UpstreamCredential: r.UpstreamCredential,
			UpstreamStatus: int32(r.UpstreamStatus), Code: r.Code, Outcome: string(r.Outcome), Detail: r.Detail, Truncated: r.Truncated, Duration: got.GetDuration()}
		for _, f := range r.Path {
			want.Path = append(want.Path, &c1proxyv1.NamedValue{Name: f.Name, Value: f.Value})
		}
		for _, status := range r.Attempts {
			want.Attempts = append(want.Attempts, int32(status))
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || r.Kind == "outcome" && got.GetDuration().AsDuration() != r.Duration {
			t.Errorf("record %d: %s", r.Seq, diff)
		}
	}
}

// A question that cannot be answered says why, on every door.
func TestAuditAPIBadQuestions(t *testing.T) {
	g := start(t, withAuditors)
	g.someCalls(3)
	token := func(key string, f *c1proxyv1.RecordFilter) string {
		response, err := g.auditing(protocols[0], key, false).Query(t.Context(), connect.NewRequest(&c1proxyv1.QueryRequest{Filter: f, PageSize: 1}))
		if err != nil || response.Msg.GetNextPageToken() == "" {
			t.Fatalf("%v, %v", response, err)
		}
		return response.Msg.GetNextPageToken()
	}
	own := token("sync-bot", nil)
	changed := []byte(own)
	changed[3] ^= 2
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		q           *c1proxyv1.QueryRequest
		field, want string
	}{
		{&c1proxyv1.QueryRequest{PageSize: -1}, "page_size", "from 1 to 1000"},
		{&c1proxyv1.QueryRequest{PageSize: 1001}, "page_size", "from 1 to 1000"},
		{&c1proxyv1.QueryRequest{PageToken: "?"}, "page_token", "next_page_token"},
		{&c1proxyv1.QueryRequest{PageToken: long}, "page_token", ""},
		{&c1proxyv1.QueryRequest{PageToken: string(changed)}, "page_token", ""},
		{&c1proxyv1.QueryRequest{PageToken: own, Filter: &c1proxyv1.RecordFilter{Kind: "intent"}}, "page_token", ""},
		{&c1proxyv1.QueryRequest{PageToken: token("slow-bot", nil)}, "page_token", ""},
		{&c1proxyv1.QueryRequest{PageToken: token("reader", nil)}, "page_token", ""},
		{&c1proxyv1.QueryRequest{PageToken: token("reader", &c1proxyv1.RecordFilter{Team: "payments"})}, "page_token", ""},
		{&c1proxyv1.QueryRequest{Filter: &c1proxyv1.RecordFilter{Kind: "intents"}}, "filter.kind", "intent outcome denied event"},
		{&c1proxyv1.QueryRequest{Filter: &c1proxyv1.RecordFilter{Outcome: "good"}}, "filter.outcome", "indeterminate"},
		{&c1proxyv1.QueryRequest{Filter: &c1proxyv1.RecordFilter{Method: "a,b"}}, "filter.method", "package.Service"},
		{&c1proxyv1.QueryRequest{Filter: &c1proxyv1.RecordFilter{RequestId: long}}, "filter.request_id", "256 bytes"},
		{&c1proxyv1.QueryRequest{Filter: &c1proxyv1.RecordFilter{Since: timestamppb.New(time.Unix(9, 0)), Until: timestamppb.New(time.Unix(8, 0))}}, "filter.since", "not before"},
		{&c1proxyv1.QueryRequest{Filter: &c1proxyv1.RecordFilter{Since: &timestamppb.Timestamp{Seconds: 1, Nanos: 5}, Values: make([]*c1proxyv1.NamedValue, 17)}}, "filter.values", "16"},
		{&c1proxyv1.QueryRequest{Filter: &c1proxyv1.RecordFilter{Team: "readers"}}, "filter.team", "you see the records of team payments alone"},
	} {
		for i := range tt.q.GetFilter().GetValues() {
			tt.q.Filter.Values[i] = &c1proxyv1.NamedValue{Value: "x"}
		}
		for _, p := range rpcs {
			response, err := g.auditing(p, "sync-bot", false).Query(t.Context(), connect.NewRequest(tt.q))
			code, reason := connect.CodeInvalidArgument, "BAD_REQUEST"
			if tt.field == "filter.team" {
				code, reason = connect.CodePermissionDenied, "AUDIT_DENIED"
			}
			if codeOf(err) != code || reasonOf(err) != reason || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 1000 {
				t.Errorf("%s: %.300v: %v, want %s with %q", p.name, tt.q, err, reason, tt.want)
			}
			if records := g.records(requestID(response, err)); len(records) != 2 || records[1].Error != reason || records[1].Field != tt.field {
				t.Errorf("%s: %.300v on record as %+v, want the field %s", p.name, tt.q, records, tt.field)
			}
			if tt.q.PageToken != "" || tt.q.PageSize != 0 {
				continue
			}
			stream, err := g.auditing(p, "sync-bot", false).Tail(t.Context(), connect.NewRequest(&c1proxyv1.TailRequest{Filter: tt.q.Filter}))
			if err == nil && stream.Receive() {
				t.Errorf("%s: a tail of %v", p.name, tt.q)
			} else if err = errors.Join(err, stream.Err()); codeOf(err) != code || reasonOf(err) != reason || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: a tail of %.300v: %v", p.name, tt.q, err)
			}
		}
	}
}

// Nobody sees a record of another team's, by whatever field of a filter, by no
// token, tail or proof; who may sees them all.
func TestAuditAPITeams(t *testing.T) {
	g := start(t, withAuditors)
	g.someCalls(2)
	reader := g.auditing(protocols[1], "reader", false)
	all := g.walk(reader, nil, 100, func() {}) // and what is asked from here on makes more
	for _, v := range auditViews[:2] {
		client := g.auditing(protocols[1], v.key, v.admin)
		for _, r := range all {
			for _, f := range filtersOf(r) {
				if found := g.walk(reader, f, 1000, func() {}); !slices.Contains(numbersOf(found), r.GetSeq()) {
					t.Errorf("an auditor does not see %v by %v", r, f)
				}
				for _, seen := range g.walk(client, f, 1000, func() {}) {
					if seen.GetTeam() != v.team {
						t.Fatalf("%s sees %v by %v", v.key, seen, f)
					}
				}
			}
			_, err := client.Prove(t.Context(), connect.NewRequest(&c1proxyv1.ProveRequest{Seq: r.GetSeq()}))
			if own := r.GetTeam() == v.team; own != (err == nil) || !own && (reasonOf(err) != "RECORD_NOT_FOUND" || !strings.Contains(err.Error(), "no such record")) {
				t.Errorf("%s: proof of %v: %v", v.key, r, err)
			}
		}
		_, err := client.Prove(t.Context(), connect.NewRequest(&c1proxyv1.ProveRequest{Seq: 1 << 60}))
		if reasonOf(err) != "RECORD_NOT_FOUND" || !strings.Contains(err.Error(), "no such record") {
			t.Errorf("a record that is not there: %v", err)
		}
	}
}

// filtersOf are the filters, of one field each, that a record matches.
func filtersOf(r *c1proxyv1.Record) (filters []*c1proxyv1.RecordFilter) {
	add := func(f *c1proxyv1.RecordFilter) {
		if proto.Size(f) > 0 {
			filters = append(filters, f)
		}
	}
	add(&c1proxyv1.RecordFilter{Since: r.GetTime(), Until: timestamppb.New(r.GetTime().AsTime().Add(time.Millisecond))})
	for _, f := range []*c1proxyv1.RecordFilter{{Caller: r.GetCaller()}, {Tenant: r.GetTenant()}, {Method: r.GetProcedure()}, {Kind: r.GetKind()}, {Outcome: r.GetOutcome()},
		{Code: r.GetCode()}, {Error: r.GetError()}, {RequestId: r.GetRequestId()}, {ClientRequestId: r.GetClientRequestId()}, {Intent: r.GetIntent()}, {Event: r.GetEvent()}, {Door: r.GetDoor()}} {
		add(f)
	}
	for _, value := range append(r.GetPath(), r.GetRequest()...) {
		add(&c1proxyv1.RecordFilter{Values: []*c1proxyv1.NamedValue{value}})
	}
	return filters
}

// A proof is good for who has the log's key alone.
func TestAuditAPIProve(t *testing.T) {
	g := start(t, withAuditors)
	for _, p := range rpcs {
		for _, v := range auditViews {
			if err := g.list(); err != nil {
				t.Fatal(err)
			}
			records := g.all(audit.Filter{Team: v.team})
			if v.team == "slow" && len(records) == 0 {
				g.someCalls(1)
				records = g.all(audit.Filter{Team: v.team})
			}
			last := records[len(records)-1] // which no head covers yet
			response, err := g.auditing(p, v.key, v.admin).Prove(t.Context(), connect.NewRequest(&c1proxyv1.ProveRequest{Seq: last.Seq}))
			if err != nil {
				t.Fatalf("%s, %s: %v", p.name, v.key, err)
			}
			proof, _, err := audit.ParseProof([]byte(response.Msg.GetProof()))
			if err != nil || proof.Check(g.proxy.VerifierKey(), nil) != nil || proof.Index != last.Seq || response.Msg.GetRecord().GetId() != last.ID || response.Msg.GetVerifierKey() != g.proxy.VerifierKey() {
				t.Errorf("%s, %s: %v, %v", p.name, v.key, response, err)
			}
		}
	}
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	response, err := g.auditing(protocols[0], "reader", false).Prove(t.Context(), connect.NewRequest(&c1proxyv1.ProveRequest{Seq: 3}))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "3.tlog-proof")
	if err := os.WriteFile(file, []byte(response.Msg.GetProof()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, exit := runProgram(t, name, "audit", "check-proof", file, "--key", g.proxy.VerifierKey()); exit != 0 || !strings.HasPrefix(out, `{"seq":3,`) {
		t.Errorf("check-proof: exit %d: %s", exit, out)
	}
}

// An operator's key without the scope has no use.
func TestAuditAPIScope(t *testing.T) {
	g := start(t, withAuditors)
	for _, p := range rpcs {
		_, err := g.auditing(p, "on-call", true).Query(t.Context(), connect.NewRequest(&c1proxyv1.QueryRequest{}))
		if codeOf(err) != connect.CodePermissionDenied || reasonOf(err) != "METHOD_DENIED" || !strings.Contains(err.Error(), "no scope audit") {
			t.Errorf("%s: %v", p.name, err)
		}
		stream, err := g.auditing(p, "on-call", true).Tail(t.Context(), connect.NewRequest(&c1proxyv1.TailRequest{}))
		if err == nil && !stream.Receive() {
			err = stream.Err()
		}
		if codeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), "no scope audit") {
			t.Errorf("%s: a tail: %v", p.name, err)
		}
	}
	status, _, body := do(t, g.httpClient(true), g.post("c1proxy.v1.AuditService/Query", "", "{}"))
	if status != http.StatusUnauthorized {
		t.Errorf("a stranger: %d %s", status, body)
	}
}
