package proxy_test

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// busyFor is how long a refusal says to wait; 0 if it is none of that kind.
func busyFor(err error) time.Duration {
	f := fault.Of(err)
	if f == nil || f.Code != connect.CodeResourceExhausted || f.Reason != fault.AuditBusy {
		return 0
	}
	return f.RetryAfter
}

// Three read at once, and one who watches over all. A fourth waits five seconds, for
// a place or with its caller.
func TestReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		readers := proxy.NewReaders()
		var leaves []func()
		for i := range 4 {
			leave, err := readers.Enter(t.Context(), i == 3)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leave)
		}
		for _, oversees := range []bool{false, true} {
			begun := time.Now()
			if _, err := readers.Enter(t.Context(), oversees); busyFor(err) != time.Second || time.Since(begun) != 5*time.Second {
				t.Errorf("one more: %v after %v", err, time.Since(begun))
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := readers.Enter(gone, false); !errors.Is(err, context.Canceled) {
			t.Errorf("one that has gone: %v", err)
		}
		time.AfterFunc(time.Second/2, leaves[0])
		begun := time.Now()
		if _, err := readers.Enter(t.Context(), false); err != nil || time.Since(begun) != time.Second/2 {
			t.Errorf("after one has left: %v after %v", err, time.Since(begun))
		}
	})
}

// Places are bounded in all, for a team and for each, and people who are one caller are told
// apart.
func TestRation(t *testing.T) {
	enter := proxy.Ration(3, 3, 2)
	bot, ann, bob := &principal.Principal{Team: "a", Caller: "x"}, &principal.Principal{Team: "b", Caller: "x", Subject: "ann"}, &principal.Principal{Team: "b", Caller: "x", Subject: "bob"}
	first, err := enter(bot)
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []*principal.Principal{bot, ann} {
		if _, err := enter(who); err != nil {
			t.Error(err)
		}
	}
	for _, who := range []*principal.Principal{bot, ann, bob} {
		if _, err := enter(who); busyFor(err) == 0 {
			t.Errorf("one too many, %+v: %v", who, err)
		}
	}
	first()
	if _, err := enter(bob); err != nil {
		t.Error(err)
	}
	operator, other := &principal.Principal{Caller: "a"}, &principal.Principal{Team: "a", Caller: "x"}
	enter = proxy.Ration(3, 2, 2)
	for _, who := range []*principal.Principal{operator, operator, other} { // who is of no team has one to himself
		if _, err := enter(who); err != nil {
			t.Error(err)
		}
	}
	enter = proxy.Ration(5, 2, 2)
	for i, who := range []*principal.Principal{ann, bob, {Team: "b", Caller: "y"}, bot} {
		if _, err := enter(who); (busyFor(err) == 0) != (i != 2) {
			t.Errorf("a third of a team, and one of another: %d: %v", i, err)
		}
	}
}

// A filter is taken whole, each field in its place.
func TestFilterIsWhole(t *testing.T) {
	want := audit.Filter{Since: time.Unix(1, 0).UTC(), Until: time.Unix(2, 0).UTC(), Caller: "caller", Team: "team", Tenant: "tenant", Door: "door", Method: "method", NotMethod: "other",
		Kind: audit.KindIntent, Outcome: audit.OutcomeFailed, Code: "code", Error: "error", RequestID: "request", ClientRequestID: "client", Intent: "intent", Event: "event",
		Path: audit.Fields{{Name: "name", Value: "value"}}}
	asked := &c1proxyv1.RecordFilter{Since: timestamppb.New(want.Since), Until: timestamppb.New(want.Until), Caller: "caller", Team: "team", Tenant: "tenant", Door: "door", Method: "method", NotMethod: "other",
		Kind: "intent", Outcome: "failed", Code: "code", Error: "error", RequestId: "request", ClientRequestId: "client", Intent: "intent", Event: "event",
		Values: []*c1proxyv1.NamedValue{{Name: "name", Value: "value"}}}
	for v, i := reflect.ValueOf(want), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not looked at", v.Type().Field(i).Name)
		}
	}
	if n := asked.ProtoReflect().Descriptor().Fields().Len(); n != reflect.TypeFor[audit.Filter]().NumField() {
		t.Errorf("%d fields can be asked for", n)
	}
	got, err := proxy.FilterOf(asked)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
	}
	// The first of all times is a bound too.
	got, err = proxy.FilterOf(&c1proxyv1.RecordFilter{Until: timestamppb.New(time.Time{})})
	if err != nil || got.Until.IsZero() || got.Until.After(time.Time{}.Add(time.Second)) {
		t.Errorf("%v, %v", got.Until, err)
	}
}

// A page token is of no use for another log, filter or view.
func TestToken(t *testing.T) {
	f := audit.Filter{Team: "payments"}
	token, takes := proxy.Token("a", false, f, 7)
	if !takes("a", false, f) {
		t.Error("its own question")
	}
	if takes("b", false, f) || takes("a", true, f) || takes("a", false, audit.Filter{Team: "slow"}) {
		t.Error("another question")
	}
	if other, _ := proxy.Token("a", false, f, 8); other == token {
		t.Error("another place")
	}
}

// A page is bounded in time, by half of what the caller allows, and in bytes.
func TestPageBounds(t *testing.T) {
	dir := t.TempDir()
	log, err := audit.Open(t.Context(), audit.Config{Dir: filepath.Join(dir, "audit"), KeyFile: filepath.Join(dir, "key")})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	hurried, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	patient, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, tt := range []struct {
		ctx         context.Context
		least, most time.Duration
	}{{t.Context(), 2 * time.Second, 2 * time.Second}, {patient, 2 * time.Second, 2 * time.Second}, {hurried, time.Millisecond, time.Second / 2}, {late, 1, 1}} {
		page := proxy.PageOf(tt.ctx, log, 4<<20, audit.Filter{Team: "a"}, 9, 5)
		if page.Time < tt.least || page.Time > tt.most || page.Bytes != 256<<10 || page.Before != 9 || page.Most != 5 || page.Filter.Team != "a" || page.Dir != log.Dir() {
			t.Errorf("%+v, want a time from %v to %v", page, tt.least, tt.most)
		}
	}
	if page := proxy.PageOf(t.Context(), log, 256<<10, audit.Filter{}, 9, 5); page.Bytes != 128<<10 {
		t.Errorf("where messages are small: %d bytes", page.Bytes)
	}
}
