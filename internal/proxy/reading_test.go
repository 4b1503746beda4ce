package proxy_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

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

// Four read at once. A fifth waits a second, for a place or with its caller.
func TestReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		readers := proxy.NewReaders()
		var leaves []func()
		for range 4 {
			leave, err := readers.Enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leave)
		}
		begun := time.Now()
		if _, err := readers.Enter(t.Context()); busyFor(err) != time.Second || time.Since(begun) != time.Second {
			t.Errorf("a fifth: %v after %v", err, time.Since(begun))
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := readers.Enter(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("one that has gone: %v", err)
		}
		time.AfterFunc(time.Second/2, leaves[0])
		begun = time.Now()
		if _, err := readers.Enter(t.Context()); err != nil || time.Since(begun) != time.Second/2 {
			t.Errorf("after one has left: %v after %v", err, time.Since(begun))
		}
	})
}

// Places are bounded in all and for each, and people who are one caller are told
// apart.
func TestRation(t *testing.T) {
	enter := proxy.Ration(3, 2)
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
}
