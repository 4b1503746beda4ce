package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// full is a record with every field set.
func full() audit.Record {
	return audit.Record{
		Seq: 7, ID: "id-7", Time: time.Date(2026, 11, 23, 10, 20, 30, 40, time.UTC), Kind: audit.KindOutcome,
		RequestID: "r", Intent: "id-6", ClientRequestID: "c", Caller: "bot", Team: "payments", Tenant: "default",
		Credential: "key:1", Procedure: "/s.S/M", Door: "grpc", Peer: "[::1]:1", PolicyRevision: "p", Rule: "rule",
		Path: audit.Fields{{Name: "b", Value: "2"}, {Name: "a", Value: "1"}}, Request: audit.Fields{{Name: "q", Value: "3"}}, Reason: "why", Error: "E", Field: "f", UpstreamCredential: "fox@acme/spc",
		UpstreamStatus: 503, Attempts: []int{401, 0, 503}, Code: "unknown", Outcome: audit.OutcomeIndeterminate,
		ClientGone: true, Duration: 1234567 * time.Microsecond, Detail: map[string]string{"z": "1", "y": "2"},
		Truncated: []string{"reason"},
	}
}

// TestGolden pins the format: logs are read for years.
func TestGolden(t *testing.T) {
	want := `{"seq":7,"id":"id-7","time":"2026-11-23T10:20:30.00000004Z","kind":"outcome","request_id":"r","intent":"id-6",` +
		`"client_request_id":"c","caller":"bot","team":"payments","tenant":"default","credential":"key:1","procedure":"/s.S/M",` +
		`"door":"grpc","peer":"[::1]:1","policy_revision":"p","rule":"rule","path":{"b":"2","a":"1"},"request":{"q":"3"},"reason":"why","error":"E",` +
		`"field":"f","upstream_credential":"fox@acme/spc","upstream_status":503,"attempts":[401,0,503],"code":"unknown","outcome":"indeterminate","client_gone":true,` +
		`"duration_us":1234567,"detail":{"y":"2","z":"1"},"truncated":["reason"]}`
	r := full()
	got, err := r.MarshalJSON()
	if err != nil || string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	small := audit.Record{ID: "x", Kind: audit.KindEvent, Event: "e"}
	if got, _ := small.MarshalJSON(); string(got) != `{"seq":0,"id":"x","time":"0001-01-01T00:00:00Z","kind":"event","event":"e"}` {
		t.Errorf("got %s", got)
	}
}

// TestEveryField: the tags, the encoder and the parser know the same fields. A
// new field fails here until all of them do.
func TestEveryField(t *testing.T) {
	type plain audit.Record // without its methods
	r := full()
	r.Event = "e"
	byTags, err := json.Marshal(plain(r))
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := r.MarshalJSON()
	var want, got map[string]any
	if json.Unmarshal(byTags, &want) != nil || json.Unmarshal(ours, &got) != nil {
		t.Fatalf("not JSON: %s", ours)
	}
	want["duration_us"] = 1234567.0
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-tags +encoder):\n%s", diff)
	}
	r = full() // a line with an event and an outcome would not be accepted
	ours, _ = r.MarshalJSON()
	parsed, err := audit.Parse(ours)
	if diff := cmp.Diff(r, parsed); err != nil || diff != "" {
		t.Errorf("parsed: %v (-want +got):\n%s", err, diff)
	}
	var decoded audit.Record
	if err := json.Unmarshal(ours, &decoded); err != nil || !cmp.Equal(r, decoded) {
		t.Errorf("decoded: %v\n%s", err, cmp.Diff(r, decoded))
	}
}

// asJSON is the string that encoding/json makes of s: bytes that are no UTF-8
// become U+FFFD.
func asJSON(t *testing.T, s string) string {
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// checkEncoding holds for every record:
//
//   - it is one line of at most MaxRecord bytes and valid UTF-8,
//   - encoding/json reads it as the same record, but for what was cut,
//   - what was cut is named, and carries the hash of the whole,
//   - the parser accepts it, and what it reads encodes to the same line.
func checkEncoding(t *testing.T, r audit.Record) {
	line, err := r.MarshalJSON()
	if err != nil || len(line) > audit.MaxRecord || !utf8.Valid(line) || bytes.ContainsAny(line, "\n\r") {
		t.Fatalf("%d bytes, error %v: %.500q", len(line), err, line)
	}
	if bytes.Contains(line, []byte("\u2028")) || bytes.Contains(line, []byte("\u2029")) {
		t.Fatalf("a line separator: %q", line)
	}
	var got audit.Record
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("not JSON: %v: %s", err, line)
	}
	parsed, err := audit.Parse(line)
	if diff := cmp.Diff(got, parsed); err != nil || diff != "" {
		t.Fatalf("parse: %v (-encoding/json +parse):\n%s", err, diff)
	}
	if again, _ := parsed.MarshalJSON(); !bytes.Equal(again, line) {
		t.Fatalf("encodes again to another line:\n%s\n%s", line, again)
	}
	want := normal(r)
	texts := func(r *audit.Record) map[string]*string {
		return map[string]*string{
			"request_id": &r.RequestID, "client_request_id": &r.ClientRequestID, "caller": &r.Caller, "team": &r.Team,
			"tenant": &r.Tenant, "credential": &r.Credential, "procedure": &r.Procedure, "door": &r.Door, "peer": &r.Peer,
			"policy_revision": &r.PolicyRevision, "rule": &r.Rule, "reason": &r.Reason, "error": &r.Error, "field": &r.Field,
			"upstream_credential": &r.UpstreamCredential,
			"code":                &r.Code, "event": &r.Event,
		}
	}
	read := texts(&got)
	for name, s := range texts(&want) {
		*s = checkText(t, got.Truncated, r.Truncated, name, *s, *read[name])
	}
	for i := range got.Path {
		want.Path = slices.Clone(want.Path)
		want.Path[i].Value = checkText(t, got.Truncated, r.Truncated, "path."+want.Path[i].Name, want.Path[i].Value, got.Path[i].Value)
	}
	for i := range got.Request {
		want.Request = slices.Clone(want.Request)
		want.Request[i].Value = checkText(t, got.Truncated, r.Truncated, "request."+want.Request[i].Name, want.Request[i].Value, got.Request[i].Value)
	}
	for name, value := range got.Detail {
		want.Detail[name] = checkText(t, got.Truncated, r.Truncated, "detail."+name, want.Detail[name], value)
	}
	want.Path = want.Path[:min(6, len(want.Path))]
	want.Request = want.Request[:min(8, len(want.Request))]
	want.Attempts = want.Attempts[:min(16, len(want.Attempts))]
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(audit.Record{}, "Truncated")); diff != "" {
		t.Fatalf("read as another record (-want +got):\n%s", diff)
	}
}

// checkText compares a value with what was read of it, which it returns.
func checkText(t *testing.T, truncated, before []string, name, want, got string) string {
	if !slices.Contains(truncated, name) || slices.Contains(before, name) && got == asJSON(t, want) {
		if got != asJSON(t, want) {
			t.Fatalf("%s is %q, want %q", name, got, want)
		}
		return got
	}
	mark := fmt.Sprintf("…[sha256:%x,%d bytes]", sha256.Sum256([]byte(want)), len(want))
	kept, ok := strings.CutSuffix(got, mark)
	if !ok || !strings.HasPrefix(asJSON(t, want), kept) {
		t.Fatalf("%s was cut to %q", name, got)
	}
	return got
}

// TestLimits: the worst of everything at once stays within a record.
func TestLimits(t *testing.T) {
	largest := 0
	for _, unit := range []string{"x", "\x00", "\xff", "é", "\u2028", "\U0001F600", `"`} {
		for _, n := range []int{1, 41, 256, 257, 1024, 20000} {
			s := strings.Repeat(unit, n)
			r := full()
			for _, p := range []*string{&r.RequestID, &r.ClientRequestID, &r.Caller, &r.Team, &r.Tenant, &r.Credential, &r.Procedure,
				&r.Door, &r.Peer, &r.PolicyRevision, &r.Rule, &r.Reason, &r.Error, &r.Field, &r.UpstreamCredential, &r.Code} {
				*p = s
			}
			r.ID, r.Intent = strings.Repeat("i", 64), strings.Repeat("j", 64)
			r.Path, r.Request, r.Detail, r.Truncated = nil, nil, map[string]string{}, nil
			for i := range 12 {
				name := fmt.Sprintf("%048d", i)
				if i < 6 {
					r.Path = append(r.Path, audit.Field{Name: name, Value: s})
				}
				if i < 8 {
					r.Request = append(r.Request, audit.Field{Name: name, Value: s})
				}
				r.Detail[name] = s
			}
			for i := range 16 {
				r.Truncated = append(r.Truncated, fmt.Sprintf("%055d", i))
			}
			r.Attempts = slices.Repeat([]int{-1 << 62}, 16)
			r.Seq, r.UpstreamStatus = 1<<64-1, -1<<63
			line, _ := r.MarshalJSON()
			largest = max(largest, len(line))
			checkEncoding(t, r)
		}
	}
	t.Logf("the largest record has %d of %d bytes", largest, audit.MaxRecord)
}

// TestTooMany: the rest of a list that is too long is left out, and named.
func TestTooMany(t *testing.T) {
	r := full()
	for i := range 40 {
		r.Path = append(r.Path, audit.Field{Name: fmt.Sprint("n", i), Value: "v"})
		r.Request = append(r.Request, audit.Field{Name: fmt.Sprint("n", i), Value: "v"})
		r.Attempts = append(r.Attempts, i)
		r.Detail[fmt.Sprint("n", i)] = "v"
	}
	line, _ := r.MarshalJSON()
	got, err := audit.Parse(line)
	if err != nil || len(got.Path) != 6 || len(got.Request) != 8 || len(got.Attempts) != 16 || len(got.Detail) != 12 {
		t.Errorf("%v: %s", err, line)
	}
	if diff := cmp.Diff([]string{"reason", "path", "request", "attempts", "detail"}, got.Truncated); diff != "" {
		t.Errorf("truncated (-want +got):\n%s", diff)
	}
	if len(r.Truncated) != 1 {
		t.Errorf("the caller's record was changed: %v", r.Truncated)
	}
}

// FuzzEncode checks the encoding of records made of arbitrary bytes.
func FuzzEncode(f *testing.F) {
	f.Add("plain", "text", int64(1), uint16(0))
	f.Add("\x00\x1f\"\\/\b\f\n\r\t\x7f", "<script>&'", int64(-1), uint16(3))
	f.Add("\xff\xfe\xed\xa0\x80é\u2028\u2029\U0001F600�", "…[sha256:", int64(1<<40), uint16(300))
	f.Fuzz(func(t *testing.T, a, b string, n int64, repeat uint16) {
		rng := rand.New(rand.NewPCG(uint64(n), uint64(repeat)))
		long := strings.Repeat(b, int(repeat)%512)
		pick := func() string { return []string{"", a, b, long, a + b, a[:len(a)/2]}[rng.IntN(6)] }
		r := audit.Record{
			Seq: uint64(n), ID: "id", Time: time.Unix(n%(1<<33), n).UTC(), Kind: audit.KindDenied,
			RequestID: pick(), ClientRequestID: pick(), Caller: pick(), Team: pick(), Tenant: pick(), Credential: pick(),
			Procedure: pick(), Door: pick(), Peer: pick(), PolicyRevision: pick(), Rule: pick(), Reason: pick(),
			Error: pick(), Field: pick(), UpstreamCredential: pick(), Code: pick(), UpstreamStatus: int(n), ClientGone: n%2 == 0,
			Duration: time.Duration(max(0, n)), Attempts: make([]int, rng.IntN(20)),
		}
		if year := r.Time.Year(); year < 1 || year > 9999 {
			r.Time = time.Time{}
		}
		for i := range rng.IntN(4) {
			r.Path = append(r.Path, audit.Field{Name: fmt.Sprint("p", i), Value: pick()})
		}
		for i := range rng.IntN(4) {
			r.Request = append(r.Request, audit.Field{Name: fmt.Sprint("q", i), Value: pick()})
		}
		if rng.IntN(2) == 0 {
			r.Detail = map[string]string{"a": pick(), "b": pick()}
		}
		checkEncoding(t, r)
		checkQuoting(t, a)
	})
}

// checkQuoting: strings are quoted byte for byte as encoding/json does, but
// for the bytes that are no UTF-8.
func checkQuoting(t *testing.T, s string) {
	if !utf8.ValidString(s) || len(s) > 40 {
		return
	}
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		t.Fatal(err)
	}
	got, _ := audit.Fields{{Name: s, Value: s}}.MarshalJSON()
	quoted := strings.TrimSpace(want.String())
	if string(got) != "{"+quoted+":"+quoted+"}" {
		t.Fatalf("got %s, want %s twice", got, quoted)
	}
}

// TestParseRefuses: a line that differs from the canonical one in any way is
// no record.
func TestParseRefuses(t *testing.T) {
	good, _ := ptr(full()).MarshalJSON()
	for from, to := range map[string]string{
		`{"seq":7`:         `{"seq":07`,
		`"seq":7,`:         `"seq": 7,`,
		`"seq":7,"id"`:     `"seq":7,"seq":7,"id"`,
		`"team"`:           `"Team"`,
		`"bot"`:            `"\u0062ot"`,
		`00000004Z`:        `0000000400Z`,
		`04Z`:              `04+00:00`,
		`"kind":"outcome"`: `"kind":"outcomes"`,
		`"b":"2","a":"1"`:  `"b":"2"`,
		`"y":"2","z":"1"`:  `"z":"1","y":"2"`,
		`[401,0,503]`:      `[401,0,503,]`,
		`,"client_gone"`:   `,"client_gone":false,"client_gone"`,
		`1234567,`:         `1.234567e6,`,
		`["reason"]`:       `[]`,
		`]}`:               `]} `,
		`{"b"`:             `{ "b"`,
		`"why"`:            "\"\xff\"",
	} {
		bad := strings.Replace(string(good), from, to, 1)
		if bad == string(good) {
			t.Fatalf("%q is not in %s", from, good)
		}
		if from == `"b":"2","a":"1"` {
			continue // another record, as canonical as the first
		}
		if _, err := audit.Parse([]byte(bad)); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
	for n := range len(good) {
		if _, err := audit.Parse(good[:n]); err == nil {
			t.Errorf("accepted %s", good[:n])
		}
	}
	if _, err := audit.Parse(good); err != nil {
		t.Error(err)
	}
}
