package siem_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/siem"
)

// To write testdata/ocsf.jsonl again:
//
//	go test ./internal/siem -run Golden -update
var update = flag.Bool("update", false, "write the golden file again")

func routes(t testing.TB) []*route.Route {
	t.Helper()
	routes, err := route.Load(catalog.Files(), catalog.Types{}, "c1.")
	if err != nil {
		t.Fatal(err)
	}
	return routes
}

func ocsf(t testing.TB) *siem.OCSF { return siem.NewOCSF(routes(t), "example.com/log", "v1.2.3") }

// sample has a record of each kind, outcome and event.
func sample() []audit.Record {
	at := time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC)
	call := audit.Record{Time: at, Kind: audit.KindIntent, RequestID: "req", ClientRequestID: "theirs", Caller: "sync-bot", Team: "payments",
		Tenant: "acme", Credential: "key-1", Procedure: "c1.api.app.v1.ConnectorService/ConfirmSyncValid", Door: "grpc", Peer: "192.0.2.7:4711",
		PolicyRevision: "rev", Rule: "payments.allow[0]", Path: audit.Fields{{Name: "app_id", Value: "a"}, {Name: "id", Value: "b\"<>"}}, Reason: "nightly sync"}
	final := func(kind audit.Kind, outcome audit.Outcome, code, reason string) audit.Record {
		r := call
		r.Kind, r.Outcome, r.Code, r.Error, r.Duration = kind, outcome, code, reason, 12345*time.Microsecond
		if kind == audit.KindOutcome {
			r.Intent, r.UpstreamStatus, r.Attempts = "id-0", 200, []int{401, 200}
		}
		return r
	}
	read := final(audit.KindOutcome, audit.OutcomeOK, "ok", "")
	read.Procedure, read.Peer = "c1.api.app.v1.Apps/List", "[fe80::1%eth0]:80"
	stranger := audit.Record{Time: at, Kind: audit.KindDenied, RequestID: "req2", Procedure: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		Peer: "pipe", Outcome: audit.OutcomeNotSent, Code: "unauthenticated", Error: "NO_KEY", Field: "f", ClientGone: true, PolicyRevision: "rev",
		Detail: map[string]string{"count": "3"}, Truncated: []string{"peer"}}
	records := []audit.Record{
		call, final(audit.KindOutcome, audit.OutcomeOK, "ok", ""), final(audit.KindOutcome, audit.OutcomeFailed, "not_found", "UPSTREAM"),
		final(audit.KindOutcome, audit.OutcomeIndeterminate, "unknown", "OUTCOME_UNKNOWN"), final(audit.KindOutcome, audit.OutcomeNotSent, "canceled", "CANCELED"),
		final(audit.KindDenied, audit.OutcomeNotSent, "permission_denied", "POLICY_DENIED"), read, stranger,
	}
	for _, name := range []string{audit.EventSegment, audit.EventStarted, audit.EventStopped, audit.EventRecovered, audit.EventGap, audit.EventAlarm} {
		records = append(records, audit.Record{Time: at, Kind: audit.KindEvent, Event: name, Detail: map[string]string{"saw": "it"}})
	}
	for i := range records {
		records[i].Seq, records[i].ID = uint64(i), fmt.Sprint("id-", i)
	}
	return records
}

func encode(t testing.TB, e siem.Encoder, r audit.Record) []byte {
	t.Helper()
	data, err := e.Encode(&r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The events as they are: a change of the mapping shows here.
func TestOCSFGolden(t *testing.T) {
	var got bytes.Buffer
	o := ocsf(t)
	for _, r := range sample() {
		got.Write(append(encode(t, o, r), '\n'))
	}
	const name = "testdata/ocsf.jsonl"
	if *update {
		if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("(-%s +got):\n%s", name, diff)
	}
}

// What each method does. The numbers change when C1's API does: look then
// whether the new methods are among the right ones.
func TestActivities(t *testing.T) {
	o, all := ocsf(t), routes(t)
	counts, others := map[string]int{}, []string(nil)
	for _, r := range all {
		var e event
		decode(t, encode(t, o, audit.Record{ID: "x", Kind: audit.KindIntent, Procedure: r.Procedure}), &e)
		id, name := e.number(t, "activity_id"), e["activity_name"].(string)
		method := string(r.Descriptor.Name())
		key := fmt.Sprint(id, " ", name)
		if id == 99 {
			key = "99"
			others = append(others, method)
		}
		counts[key]++
		if (id == 2) != r.ReadOnly || id == 99 && name != method || r.Verb == "DELETE" && id != 4 {
			t.Errorf("%s %s: activity %d %s", r.Verb, r.Procedure, id, name)
		}
	}
	slices.Sort(others)
	t.Logf("%d methods: %v; others: %v", len(all), counts, others)
	want := map[string]int{"1 Create": 100, "2 Read": 297, "3 Update": 100, "4 Delete": 93, "99": 48}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for method, want := range map[string]int{"ConfirmSyncValid": 99, "Approve": 99, "TestConnection": 99, "RevokeCredential": 4, "RotateCredential": 3, "BulkUpdateFindingState": 3} {
		i := slices.IndexFunc(all, func(r *route.Route) bool { return string(r.Descriptor.Name()) == method })
		if i < 0 {
			t.Fatalf("%s is gone", method)
		}
		var e event
		decode(t, encode(t, o, audit.Record{ID: "x", Kind: audit.KindIntent, Procedure: all[i].Method()}), &e)
		if id := e.number(t, "activity_id"); id != want {
			t.Errorf("%s: %d, want %d", method, id, want)
		}
	}
}

// An event is an OCSF event, decoded.
type event map[string]any

func decode(t testing.TB, data []byte, into *event) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
}

// at is what stands at a path, nil for nothing. A list's first item stands for
// all.
func (e event) at(path string) any {
	var node any = map[string]any(e)
	for name := range strings.SplitSeq(path, ".") {
		if list, ok := node.([]any); ok && len(list) > 0 {
			node = list[0]
		}
		object, ok := node.(map[string]any)
		if !ok {
			return nil
		}
		node = object[name]
	}
	return node
}

func (e event) number(t testing.TB, path string) int {
	t.Helper()
	n, ok := e.at(path).(json.Number)
	i, err := n.Int64()
	if !ok || err != nil {
		t.Fatalf("%s is %v", path, e.at(path))
	}
	return int(i)
}

// required are the attributes that OCSF 1.9.0 requires of each class, and of
// the objects in it. One of those joined by | must be there.
var required = map[int][]string{
	0: {"activity_id", "category_uid", "class_uid", "type_uid", "time", "severity_id", "metadata.version", "metadata.product.name|metadata.product.uid",
		"metadata.product.vendor_name"},
	6003: {"actor.user.name|actor.user.uid", "api.operation", "api.request.uid", "src_endpoint.ip|src_endpoint.name"},
	6002: {"application.name|application.uid"},
	6008: {},
	2004: {"finding_info.uid", "finding_info.title"},
}

func TestOCSFRequired(t *testing.T) {
	o := ocsf(t)
	for _, r := range append(sample(), audit.Record{ID: "x", Kind: audit.KindIntent}, audit.Record{ID: "x", Kind: audit.KindEvent, Event: "else"}) {
		var e event
		decode(t, encode(t, o, r), &e)
		classUID := e.number(t, "class_uid")
		of, ok := required[classUID]
		if !ok {
			t.Errorf("class %d is not expected", classUID)
		}
		for _, alternatives := range append(of, required[0]...) {
			if !slices.ContainsFunc(strings.Split(alternatives, "|"), func(path string) bool { return e.at(path) != nil }) {
				t.Errorf("%s of %s: no %s in %v", r.Kind, r.Event, alternatives, e)
			}
		}
		if e.number(t, "type_uid") != classUID*100+e.number(t, "activity_id") || e.number(t, "category_uid") != classUID/1000 {
			t.Errorf("class %d has type %v and category %v", classUID, e.at("type_uid"), e.at("category_uid"))
		}
		if e.at("metadata.version") != "1.9.0" {
			t.Errorf("version %v", e.at("metadata.version"))
		}
	}
}

// Every field of a record is found somewhere in its event, of any kind. A field
// that is added to the record later is found too, or fails here.
func TestOCSFLosesNothing(t *testing.T) {
	o := ocsf(t)
	for _, kind := range []audit.Kind{audit.KindIntent, audit.KindOutcome, audit.KindDenied, audit.KindEvent} {
		r := audit.Record{}
		var canaries []string
		fields := reflect.ValueOf(&r).Elem()
		for i := range fields.NumField() {
			field, name := fields.Field(i), fields.Type().Field(i).Name
			canary := strings.ToLower("canary-" + name)
			switch value := field.Addr().Interface().(type) {
			case *audit.Kind:
				*value, canary = kind, string(kind)
			case *audit.Outcome:
				*value, canary = audit.OutcomeFailed, "failed"
			case *string:
				*value = canary
			case *uint64:
				*value, canary = 777000111, "777000111"
			case *int:
				*value, canary = 418, "418"
			case *[]int:
				*value, canary = []int{431, 432}, "[431,432]"
			case *bool:
				*value, canary = true, `"client_gone":true`
			case *time.Time:
				*value, canary = time.Date(2026, 1, 2, 3, 4, 5, 678912345, time.UTC), "2026-01-02T03:04:05.678912345Z"
			case *time.Duration:
				*value, canary = 987654321*time.Microsecond, "987654321"
			case *audit.Fields:
				*value, canary = audit.Fields{{Name: "n-" + name, Value: canary}}, "n-"+name
				canaries = append(canaries, strings.ToLower("canary-"+name))
			case *map[string]string:
				*value = map[string]string{"key": canary}
			case *[]string:
				*value = []string{canary}
			default:
				t.Fatalf("field %s has a type that this test does not know", name)
			}
			canaries = append(canaries, canary)
		}
		got := string(encode(t, o, r))
		for _, canary := range canaries {
			if !strings.Contains(got, canary) {
				t.Errorf("%s: %s is lost in %s", kind, canary, got)
			}
		}
	}
}

// Whatever a record holds, an event is one line of valid UTF-8 and JSON, and of
// a bounded size.
func FuzzOCSF(f *testing.F) {
	f.Add("caller", "c1.api.app.v1.Apps/Get", "127.0.0.1:1", "value\n\x00\xff", "ok", uint8(0))
	f.Add("", "/", "[::1%\"]:80", "\u2028", "permission_denied", uint8(5))
	o := ocsf(f)
	f.Fuzz(func(t *testing.T, caller, procedure, peer, value, code string, n uint8) {
		kinds := []audit.Kind{audit.KindIntent, audit.KindOutcome, audit.KindDenied, audit.KindEvent}
		r := logged(t, audit.Record{ID: "id", Kind: kinds[n%4], Caller: caller, Team: value, Procedure: procedure, Peer: peer, Code: code, Error: value,
			Rule: caller, Reason: value, Event: code, RequestID: value, Path: audit.Fields{{Name: "p", Value: value}}, Detail: map[string]string{"d": value}})
		got := encode(t, o, r)
		if !utf8.Valid(got) || !json.Valid(got) || bytes.ContainsAny(got, "\n\r") {
			t.Errorf("not one line of JSON: %q", got)
		}
	})
}

// logged is a record as it is when it is read from a log.
func logged(t testing.TB, r audit.Record) (read audit.Record) {
	t.Helper()
	line, err := r.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(line, &read)
	}
	if err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return read
}

// The largest record makes an event that fits a datagram.
func TestOCSFIsBounded(t *testing.T) {
	o := ocsf(t)
	largest := 0
	rapid.Check(t, func(rt *rapid.T) {
		text := func(name string) string {
			return strings.Repeat(rapid.SampledFrom([]string{"a", "\x01", "\"", "é", "\u2028", "<"}).Draw(rt, name), 2000)
		}
		r := audit.Record{ID: strings.Repeat("i", 64), Intent: strings.Repeat("i", 64), Kind: audit.KindOutcome, Time: time.Now(), Detail: map[string]string{}}
		fields := reflect.ValueOf(&r).Elem()
		for i := range fields.NumField() {
			if value, ok := fields.Field(i).Addr().Interface().(*string); ok && *value == "" {
				*value = text(fields.Type().Field(i).Name)
			}
		}
		for i := range 12 {
			r.Path = append(r.Path, audit.Field{Name: fmt.Sprintf("%048d", i), Value: text("path")})
			r.Detail[fmt.Sprintf("%048d", i)] = text("detail")
		}
		largest = max(largest, len(encode(t, o, logged(t, r))))
	})
	t.Logf("the largest event has %d bytes", largest)
	if largest > 60_000 {
		t.Errorf("an event has %d bytes", largest)
	}
}

// An event says whose it is: the audit log's own, or the gateway's.
func TestOCSFNamesWhoseEvent(t *testing.T) {
	o := siem.NewOCSF(nil, "o", "v")
	for event, want := range map[string]string{audit.EventStarted: "audit log: started", "config_reloaded": "c1proxy: config_reloaded",
		"config_refused": "c1proxy: config_refused", "limits_local": "c1proxy: limits_local", "limits_shared": "c1proxy: limits_shared"} {
		text, err := o.Encode(&audit.Record{ID: "x", Kind: audit.KindEvent, Event: event})
		var said struct{ Message string }
		if err != nil || json.Unmarshal(text, &said) != nil || said.Message != want {
			t.Errorf("%s, %v, want %q", text, err, want)
		}
	}
}
