package sandbox_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// TestFramer holds how often each reaction lets net/http send a request.
func TestFramer(t *testing.T) {
	for _, test := range []struct {
		name      string
		reactions []sandbox.Reaction
		code      http2.ErrCode // of the stream error; 0 if there is none
		requests  int           // on the wire, of a request that may be sent again
		succeeds  bool
	}{
		{"respond", nil, 0, 1, true},
		{"refused, then good", []sandbox.Reaction{sandbox.RefuseStream, sandbox.Respond}, 0, 2, true},
		{"unprocessed, then good", []sandbox.Reaction{sandbox.GoAwayUnprocessed, sandbox.Respond}, 0, 2, true},
		{"processed", []sandbox.Reaction{sandbox.GoAwayProcessed, sandbox.Respond}, 0, 1, false},
		{"cancel", []sandbox.Reaction{sandbox.ResetCancel, sandbox.Respond}, http2.ErrCodeCancel, 1, false},
		{"internal", []sandbox.Reaction{sandbox.ResetInternal, sandbox.Respond}, http2.ErrCodeInternal, 1, false},
		{"closed", []sandbox.Reaction{sandbox.CloseConnection, sandbox.Respond}, 0, 1, false},
	} {
		for _, secured := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", test.name, secured), func(t *testing.T) {
				f, err := sandbox.StartFramer("127.0.0.1:0", sandbox.FramerConfig{TLS: secured, Reactions: test.reactions})
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				client := newClient(t, f.CertPEM(), !secured)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				response, err := post(ctx, client, f.URL()+"/x")
				if (err == nil) != test.succeeds || err == nil && response != "200 {}" {
					t.Errorf("got %q, %v", response, err)
				}
				if test.code != 0 && !strings.Contains(err.Error(), test.code.String()) {
					t.Errorf("got %v", err)
				}
				if got := f.Requests(); len(got) != test.requests || got[0] != "POST /x" {
					t.Errorf("on the wire: %q", got)
				}
				if response, err := post(ctx, client, f.URL()+sandbox.TokenPath); err != nil || !strings.Contains(response, "access_token") || len(f.Requests()) != test.requests {
					t.Errorf("token: got %q, %v", response, err)
				}
			})
		}
	}
}

// post sends a body that net/http is able to send again.
func post(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return fmt.Sprintf("%d %s", response.StatusCode, body), err
}
