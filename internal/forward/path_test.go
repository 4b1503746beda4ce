package forward_test

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// bits are what hostile ids are made of.
var bits = []string{
	"a", "Z", "0", "-", "_", "~", ".", "..", "/", "//", `\`, "%", "%2f", "%2F", "%2e", "%2e%2e", "%252e", "%00", "?", "#", ";", "&", "=", "@", ":", "+", " ",
	"\r\n", "\n", "\x00", "\x1f", "\x7f", "\t", "é", "\u2028", "\u202e", "．．", "／", "*", "{", "}", "[", "]", "\"", "'", "<", ">", "|", "^", "`", "$", "!", ",", "(", ")",
	"http://evil.example.com/", "@evil.example.com", "HTTP/1.1", "Host: evil", strings.Repeat("a", 256), strings.Repeat("%", 100), "confirm_sync_valid", "api", "v1",
}

// hostile is an id of up to four bits; now and then it is harmless.
func hostile(random *rand.Rand) string {
	var b strings.Builder
	for range random.IntN(5) {
		b.WriteString(bits[random.IntN(len(bits))])
	}
	return b.String()
}

// A wire writes each request as it goes to C1, and reads it with nothing of
// ours.
type wire struct {
	last []byte
	n    int
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return nil, err
	}
	w.last = b.Bytes()
	w.n++
	return http.ReadResponse(bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")), r)
}

// target is the path of the last request, from its first line.
func (w *wire) target(t *testing.T) string {
	t.Helper()
	line, _, ok := strings.Cut(string(w.last), "\r\n")
	parts := strings.Split(line, " ")
	if !ok || len(parts) != 3 || parts[2] != "HTTP/1.1" {
		t.Fatalf("the request line is %q", line)
	}
	path, _, _ := strings.Cut(parts[1], "?")
	return path
}

// P6: whatever the ids, the path that goes out has exactly the template's
// segments, each literal as it is and each value decoding to the id; or nothing
// is sent.
func TestNoPathEscapes(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	w := new(wire)
	u := scripted(t, w, time.Minute)
	ids, sent, refused := 0, 0, 0
	all := allRoutes(t)
	for _, r := range all {
		for range 160 {
			given := make(map[protoreflect.FieldDescriptor]string)
			message := filled(r, func(field protoreflect.FieldDescriptor) string {
				given[field] = hostile(random)
				return given[field]
			})
			ids += max(1, len(given))
			before := w.n
			target, err := transcode.Request(r, message)
			if err == nil {
				exchange, err := u.Prepare(t.Context(), forward.Call{Route: r, Target: target, RequestID: "request", Team: "payments"})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := exchange.Send(t.Context()); err != nil {
					t.Fatalf("seed %d: %s %q: %v", seed, r.Method(), given, err)
				}
			}
			if err != nil {
				refused++
				if f := fault.Of(err); w.n != before || f.Reason != fault.BadPathValue || f.Metadata["field"] == "" {
					t.Fatalf("seed %d: %s %q: refused with %v; %d sent", seed, r.Method(), given, err, w.n-before)
				}
				continue
			}
			sent++
			checkPath(t, seed, r, given, w.target(t))
			if host := "\r\nHost: acme.conductor.one\r\n"; !strings.Contains(string(w.last), host) || strings.Count(string(w.last), "evil\r\n") > 0 {
				t.Fatalf("seed %d: %s %q: sent\n%s", seed, r.Method(), given, w.last)
			}
		}
	}
	t.Logf("seed %d: %d ids in %d routes: %d calls sent with exactly their template's path, %d refused, 0 escaped", seed, ids, len(all), sent, refused)
	if ids < 100_000 || sent < 1000 || refused < 1000 || len(all) != 638 {
		t.Error("too little was tried")
	}
}

// checkPath holds a path that was sent against its template.
func checkPath(t *testing.T, seed uint64, r *route.Route, given map[protoreflect.FieldDescriptor]string, path string) {
	t.Helper()
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(segments) != len(r.Segments) {
		t.Fatalf("seed %d: %s %q: %d segments in %s, want %d", seed, r.Method(), given, len(segments), path, len(r.Segments))
	}
	for i, s := range r.Segments {
		text, err := url.PathUnescape(segments[i])
		if err != nil || text == "" || text == "." || text == ".." || strings.ContainsAny(text, "/\\?#%;") {
			t.Fatalf("seed %d: %s %q: segment %q of %s", seed, r.Method(), given, segments[i], path)
		}
		want := s.Literal
		if s.Field != nil {
			want = "7"
			if s.Field.Kind() == protoreflect.StringKind {
				want = given[s.Field]
			}
		} else if segments[i] != s.Literal {
			t.Fatalf("seed %d: %s %q: the literal %q is %q", seed, r.Method(), given, s.Literal, segments[i])
		}
		if text != want {
			t.Fatalf("seed %d: %s %q: segment %q is not %q", seed, r.Method(), given, segments[i], want)
		}
	}
}
