package credential_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
)

// TestRedirect: no redirect is followed, so that no secret goes where an
// answer says.
func TestRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var hits atomic.Int64
		evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
		defer evil.Close()
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, evil.URL+"/auth/v1/token", status)
		}))
		defer front.Close()
		cfg := config(nil)
		cfg.URL, cfg.ClientID = parse(front.URL), "fox@127.0.0.1/spc"
		_, err := newSource(t, cfg).Token(t.Context())
		wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
		if hits.Load() != 0 {
			t.Errorf("%d: the redirect was followed", status)
		}
	}
}

// TestNotResent: net/http has no means to send an exchange's body twice, which
// it otherwise does by itself when HTTP/2 turns a request away.
func TestNotResent(t *testing.T) {
	s := newSource(t, config(&endpoint{answer: func(n int, r *http.Request) (*http.Response, error) {
		if r.GetBody != nil || r.Body == nil || !r.Close {
			t.Errorf("GetBody set: %v, body: %v, own connection: %v", r.GetBody != nil, r.Body != nil, r.Close)
		}
		return gives(600)(n, r)
	}}))
	want(t, s, "token-1")
}

// TestBoundedAnswer: of 1 GiB, plain or compressed, of any status, no more is
// taken than the bound and what buffers hold.
func TestBoundedAnswer(t *testing.T) {
	var bomb bytes.Buffer // 32 MiB of spaces
	zip, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	chunk := bytes.Repeat([]byte(" "), 64<<10)
	for range 512 {
		_, _ = zip.Write(chunk)
	}
	_ = zip.Close()
	for _, status := range []int{200, 400, 500} {
		for _, compressed := range []bool{false, true} {
			var sent atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if compressed {
					w.Header().Set("Content-Encoding", "gzip")
					w.WriteHeader(status)
					_, _ = w.Write(bomb.Bytes())
					return
				}
				w.WriteHeader(status)
				for sent.Load() < 1<<30 {
					n, err := w.Write(chunk)
					if err != nil {
						return
					}
					sent.Add(int64(n))
				}
			}))
			cfg := config(nil)
			cfg.URL, cfg.ClientID = parse(server.URL), "fox@127.0.0.1/spc"
			s := newSource(t, cfg)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := s.Token(t.Context())
			runtime.ReadMemStats(&after)
			s.Close()
			server.Close() // waits for the handler
			if fault.Of(err).Code != connect.CodeUnavailable {
				t.Errorf("%d: %v", status, err)
			}
			if sent.Load() > 64<<20 {
				t.Errorf("%d: took %d bytes of an endless answer", status, sent.Load())
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
				t.Errorf("%d, compressed %v: used %d bytes of memory", status, compressed, used)
			}
		}
	}
}

// TestBound: the bound is 64 KiB.
func TestBound(t *testing.T) {
	body := `{"access_token":"x","token_type":"Bearer"}`
	for size, ok := range map[int]bool{64 << 10: true, 64<<10 + 1: false} {
		bubble(t, says(200, body+strings.Repeat(" ", size-len(body))), func(t *testing.T, _ *endpoint, s *credential.Source) {
			if _, err := s.Token(t.Context()); (err == nil) != ok {
				t.Errorf("an answer of %d bytes: %v, want it taken: %v", size, err, ok)
			}
		})
	}
}

// TestDrip: an answer that never ends keeps neither its caller, who leaves at
// its own deadline, nor Close.
func TestDrip(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, " ")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}))
	defer server.Close()
	cfg := config(nil)
	cfg.URL, cfg.ClientID = parse(server.URL), "fox@127.0.0.1/spc"
	s := newSource(t, cfg)
	_, err := s.Token(after(t, 200*time.Millisecond))
	wantFault(t, err, connect.CodeDeadlineExceeded, fault.DeadlineExceeded)
	begin := time.Now()
	s.Close()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// echoes are the places in which an endpoint can answer what it was sent.
var echoes = map[string]func(w http.ResponseWriter, form url.Values, secret string){
	"error": func(w http.ResponseWriter, form url.Values, secret string) {
		w.WriteHeader(400)
		fmt.Fprintf(w, `{"error":%q,"error_description":%q,"error_uri":%q}`, secret, secret, secret)
	},
	"body": func(w http.ResponseWriter, form url.Values, secret string) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(401)
		fmt.Fprint(w, form.Encode(), secret)
	},
	"form": func(w http.ResponseWriter, form url.Values, secret string) {
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
		w.WriteHeader(500)
		fmt.Fprint(w, url.Values{"error": {secret}}.Encode())
	},
	"expiry": func(w http.ResponseWriter, _ url.Values, secret string) { fmt.Fprintf(w, `{"expires_in":%q}`, secret) },
	"type": func(w http.ResponseWriter, _ url.Values, s string) {
		fmt.Fprintf(w, `{"access_token":"x","token_type":%q}`, s)
	},
	"garbage": func(w http.ResponseWriter, _ url.Values, secret string) { fmt.Fprint(w, secret) },
	"bad form": func(w http.ResponseWriter, _ url.Values, s string) {
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(w, "%zz"+s)
	},
	"redirect": func(w http.ResponseWriter, _ url.Values, secret string) {
		w.Header().Set("Location", "http://"+secret+".example/")
		w.WriteHeader(307)
	},
	"bad redirect": func(w http.ResponseWriter, _ url.Values, secret string) {
		w.Header().Set("Location", "http://%zz"+secret)
		w.WriteHeader(302)
	},
	"fields": func(w http.ResponseWriter, _ url.Values, secret string) {
		w.Header().Set("Retry-After", secret)
		w.Header().Set("Date", secret)
		w.Header().Set("Www-Authenticate", secret)
		w.WriteHeader(401)
	},
	"status line": func(w http.ResponseWriter, _ url.Values, s string) { hijack(w, "HTTP/1.1 "+s+" "+s+"\r\n\r\n") },
	"no HTTP":     func(w http.ResponseWriter, _ url.Values, s string) { hijack(w, s+"\r\n\r\n") },
	"bad field":   func(w http.ResponseWriter, _ url.Values, s string) { hijack(w, "HTTP/1.1 200 OK\r\n"+s+"\r\n\r\n") },
	"bad length": func(w http.ResponseWriter, _ url.Values, s string) {
		hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: "+s+"\r\n\r\n")
	},
	"bad coding": func(w http.ResponseWriter, _ url.Values, s string) {
		hijack(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: "+s+"\r\n\r\n")
	},
	"bad chunk": func(w http.ResponseWriter, _ url.Values, s string) {
		hijack(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+s+"\r\n")
	},
	"bad gzip": func(w http.ResponseWriter, _ url.Values, s string) {
		w.Header().Set("Content-Encoding", "gzip")
		fmt.Fprint(w, s)
	},
	"early end": func(w http.ResponseWriter, _ url.Values, s string) {
		hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"+s)
	},
}

// secrets are the forms of a credential that sends something.
var secrets = map[string]func(c *credential.Config, signing string) (secret string){
	"opaque": func(c *credential.Config, _ string) string {
		c.ClientSecret = text("canary-opaque")
		return "canary-opaque"
	},
	"signing": func(c *credential.Config, signing string) string { c.ClientSecret = text(signing); return signing },
	"subject": func(c *credential.Config, _ string) string {
		c.ClientSecret, c.SubjectToken = nil, text("canary-subject")
		return "canary-subject"
	},
}

// TestCanary: an endpoint that echoes what it was sent in every place that it
// can. No error, in any form, and no log line has any of it.
func TestCanary(t *testing.T) {
	_, signing := newKey(t)
	for echo, write := range echoes {
		for form, set := range secrets {
			t.Run(echo+"/"+form, func(t *testing.T) {
				var log bytes.Buffer
				cfg := config(nil)
				secret := set(&cfg, signing)
				var seen []string
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_ = r.ParseForm()
					w.Header().Set("Content-Type", "application/json")
					sent := r.PostForm.Get("client_secret") + r.PostForm.Get("client_assertion") + r.PostForm.Get("subject_token")
					seen = append(seen, sent)
					write(w, r.PostForm, sent)
				}))
				cfg.URL, cfg.ClientID = parse(server.URL), "fox@127.0.0.1/spc"
				cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				s := newSource(t, cfg)
				_, err := s.Token(t.Context())
				if err == nil {
					t.Fatal("a token from an endpoint that gives none")
				}
				s.Close()
				server.Close()
				state := s.State()
				printed := fmt.Sprintf("%v %+v %#v %s %v %+v %+v\n%s", err, err, err, chain(err), state, s, cfg, log.String())
				if len(seen) != 1 || seen[0] == "" {
					t.Fatalf("the endpoint saw %q", seen)
				}
				for _, canary := range append(seen, secret) {
					if strings.Contains(printed, canary) {
						t.Errorf("%q is in\n%s", canary, printed)
					}
				}
			})
		}
	}
}

// chain is the text of every error in a chain.
func chain(err error) (text string) {
	for ; err != nil; err = errors.Unwrap(err) {
		text += fmt.Sprintf("%T %v\n", err, err)
	}
	return text
}

// hijack answers with raw bytes.
func hijack(w http.ResponseWriter, raw string) {
	var conn net.Conn
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, _ = io.WriteString(conn, raw)
		_ = conn.Close()
	}
}
