package siem_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"testing"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/siem"
)

// A receiver does as it is told.
type receiver struct {
	deliver func(context.Context, []siem.Message) error
}

func (r *receiver) Deliver(ctx context.Context, messages []siem.Message) error {
	return r.deliver(ctx, messages)
}
func (r *receiver) Most() int { return 100 }
func (r *receiver) Close()    {}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func must(t testing.TB) *url.URL {
	t.Helper()
	at, err := url.Parse("https://collector.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func asRefusal(err error, refusal **siem.Refusal) bool { return errors.As(err, refusal) }

func mustOrigin(t testing.TB, dir string) string {
	t.Helper()
	origin, err := audit.Origin(dir)
	if err != nil {
		t.Fatal(err)
	}
	return origin
}
