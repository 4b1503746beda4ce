package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// What a peer says never gets into a log by way of an error, and what c1proxy's
// own side says does.
func TestSpeakable(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&url.Error{Op: "Post", URL: "http://x/?secret", Err: errors.New(`malformed HTTP response "secret"`)}, "transport error of type *errors.errorString"},
		{fmt.Errorf("read: %w", http.ErrLineTooLong), "transport error of type *fmt.wrapError"},
		{fmt.Errorf("secret: %w", &net.DNSError{Err: "no such host", Name: "acme"}), "lookup acme: no such host"},
		{fmt.Errorf("secret: %w", &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}), "dial tcp: refused"},
		{fmt.Errorf("secret: %w", io.EOF), "unexpected EOF"},
		{fmt.Errorf("secret: %w", context.DeadlineExceeded), "context deadline exceeded"},
		{fmt.Errorf("secret: %w", context.Canceled), "context canceled"},
	} {
		if got := fault.Speakable(test.err).Error(); got != test.want || strings.Contains(got, "secret") {
			t.Errorf("%v: got %q, want %q", test.err, got, test.want)
		}
	}
}
