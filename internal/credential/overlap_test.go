package credential_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
)

const (
	oldID = "clever-fox-42195@acme.conductor.one/spc"
	newID = "swift-otter-19384@acme.conductor.one/spc"
)

// A pair is a source with two credentials, in a bubble of its own: both opaque
// secrets, with an endpoint that knows which of them it takes.
type pair struct {
	*endpoint
	*credential.Source
	t *testing.T

	mu       sync.Mutex
	takes    map[string]string // secret by client id; no entry: refused
	status   int               // what every POST is answered, if not 0
	secrets  map[string]string // what c1proxy has; no entry: cannot be read
	asked    map[string]int    // POSTs by client id
	sent     []string          // every form
	outcomes map[string]int    // by client id and outcome
	log      bytes.Buffer
}

// overlap runs a test with a pair of which both secrets are good.
func overlap(t *testing.T, test func(*testing.T, *pair)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pair{t: t, asked: map[string]int{}, outcomes: map[string]int{},
			takes: map[string]string{oldID: "canary-old", newID: "canary-new"}, secrets: map[string]string{oldID: "canary-old", newID: "canary-new"}}
		p.endpoint = &endpoint{answer: p.answer}
		cfg := config(p.endpoint)
		cfg.ClientID, cfg.ClientSecret = oldID, p.secret(oldID)
		cfg.Next = &credential.Next{ClientID: newID, ClientSecret: p.secret(newID)}
		cfg.Logger = slog.New(slog.NewTextHandler(&p.log, nil))
		cfg.Observe = func(id, outcome string, _ time.Duration) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.outcomes[id+" "+outcome]++
		}
		p.Source = newSource(t, cfg)
		test(t, p)
		p.Close()
		if strings.Contains(p.log.String(), "canary") {
			t.Errorf("a secret is in the log:\n%s", p.log.String())
		}
	})
}

func (p *pair) secret(id string) func() (string, error) {
	return func() (string, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if secret, ok := p.secrets[id]; ok {
			return secret, nil
		}
		return "", errors.New("no such file")
	}
}

func (p *pair) answer(n int, r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	id := form.Get("client_id")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[id]++
	p.sent = append(p.sent, string(body))
	switch {
	case p.status != 0:
		return respond(p.status, `{}`), nil
	case form.Get("client_secret") == "" || form.Get("client_secret") != p.takes[id]:
		return respond(401, `{"error":"invalid_client"}`), nil
	}
	return gives(600)(n, r)
}

// set changes what the endpoint takes, or what c1proxy has; "" is nothing.
func (p *pair) set(of map[string]string, id, secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of[id] = secret
	if secret == "" {
		delete(of, id)
	}
}

// serves checks whose token serves, and returns it.
func (p *pair) serves(id string) credential.Token {
	p.t.Helper()
	token, err := p.Token(p.t.Context())
	if err != nil || token.Credential() != id || p.State().Credential != id {
		p.t.Fatalf("the token is of %q, the state's of %q, %v; want %s\n%s", token.Credential(), p.State().Credential, err, id, p.log.String())
	}
	return token
}

// lines counts the log's lines with a text.
func (p *pair) lines(text string) int {
	synctest.Wait() // a flight is logged after its callers are let go
	return strings.Count(p.log.String(), text)
}

// refreshed lets n tokens be replaced.
func (p *pair) refreshed(n int) {
	time.Sleep(time.Duration(n) * 520 * time.Second)
	synctest.Wait()
}

// TestNext: the next credential is tried first, and once it works the old one
// is asked for nothing, whatever has become of it.
func TestNext(t *testing.T) {
	overlap(t, func(t *testing.T, p *pair) {
		p.set(p.takes, oldID, "")
		p.set(p.secrets, oldID, "")
		if served := many(t.Context(), p.Source, 1000); served != 1000 {
			t.Errorf("%d of 1000 served", served)
		}
		p.serves(newID).Answered(500, nil)
		if p.lines("works") != 0 {
			t.Error("an answer that may come from anywhere was taken for a success")
		}
		for range 5 {
			p.serves(newID).Answered(200, nil)
			p.refreshed(1)
		}
		if diff := cmp.Diff(map[string]int{newID: 6}, p.asked); diff != "" {
			t.Errorf("POSTs (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]int{newID + " ok": 6}, p.outcomes); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		if p.lines("the next credential works") != 1 || p.lines("level=WARN") != 0 {
			t.Errorf("log:\n%s", p.log.String())
		}
	})
}

// TestNextRefused: as long as C1 refuses the next credential, or its secret
// cannot be had, the old one serves, at one line in the log, and the next one is
// tried with each token. Then it takes over.
func TestNextRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*pair)
		posts int // of the next credential, for 4 tokens
	}{
		"refused":    {func(p *pair) { p.set(p.takes, newID, "") }, 4},
		"unreadable": {func(p *pair) { p.set(p.secrets, newID, "") }, 0},
		"empty":      {func(p *pair) { p.set(p.secrets, newID, " \n") }, 0},
		"cut":        {func(p *pair) { p.set(p.secrets, newID, "secret-token:conductorone.com:v1:eyJrdHkiOiJPS1AiLCJjcn") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			overlap(t, func(t *testing.T, p *pair) {
				tt.spoil(p)
				if served := many(t.Context(), p.Source, 1000); served != 1000 {
					t.Errorf("%d of 1000 served", served)
				}
				for range 3 {
					p.serves(oldID).Answered(200, nil)
					p.refreshed(1)
				}
				p.serves(oldID)
				if p.asked[newID] != tt.posts || p.asked[oldID] != 4 {
					t.Errorf("POSTs %v, want %d of the next and 4 of the old", p.asked, tt.posts)
				}
				if p.outcomes[newID+" rejected"] != 4 || p.outcomes[oldID+" ok"] != 4 {
					t.Errorf("outcomes %v", p.outcomes)
				}
				if p.lines("level=WARN") != 1 || p.lines(`credential=`+newID) != 1 || p.Ready() != nil || p.State().Failures != 0 {
					t.Errorf("ready %v, state %+v, log:\n%s", p.Ready(), p.State(), p.log.String())
				}
				p.set(p.takes, newID, "canary-new")
				p.set(p.secrets, newID, "canary-new")
				p.refreshed(1)
				p.serves(newID)
			})
		})
	}
}

// TestNextDown: an endpoint that is down for one is down for both.
func TestNextDown(t *testing.T) {
	overlap(t, func(t *testing.T, p *pair) {
		p.status = 503
		_, err := p.Token(t.Context())
		wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
		if p.asked[newID] != 1 || p.asked[oldID] != 0 {
			t.Errorf("POSTs %v, want 1 of the next credential alone", p.asked)
		}
	})
}

// TestBothRefused is what one refused credential is: no hammering either.
func TestBothRefused(t *testing.T) {
	overlap(t, func(t *testing.T, p *pair) {
		p.set(p.takes, newID, "")
		p.set(p.takes, oldID, "")
		for range 6000 {
			_, err := p.Token(t.Context())
			wantFault(t, err, connect.CodeUnavailable, fault.UpstreamCredentialRejected)
			time.Sleep(10 * time.Millisecond)
		}
		if n := p.count(); n < 24 || n > 50 {
			t.Errorf("%d POSTs in 60 s, want two in 5 s, and more at first", n)
		}
	})
}

// TestNextRefusedByC1: the token endpoint takes the next credential, and the API
// does not take its tokens. The call that learns of it gets one of the old
// credential's; so the tenant loses nothing.
func TestNextRefusedByC1(t *testing.T) {
	overlap(t, func(t *testing.T, p *pair) {
		for range 3 {
			token := p.serves(newID)
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() {
					token.Answered(401, nil)
					p.Invalidate(token)
					if fresh, err := p.Token(t.Context()); err != nil || fresh.Credential() != oldID {
						t.Errorf("then served %q, %v", fresh.Credential(), err)
					}
				})
			}
			wg.Wait()
			p.refreshed(1)
		}
		if p.asked[oldID] != 3 {
			t.Errorf("POSTs %v, want one of the old credential's for each refusal", p.asked)
		}
		// Once C1 has taken one, a refusal is that of the token.
		token := p.serves(newID)
		token.Answered(204, nil)
		p.Invalidate(token)
		p.serves(newID)
	})
}

// TestBadSecretFile: whatever becomes of the file of a secret, the secret that
// last worked serves until the file holds one that works.
func TestBadSecretFile(t *testing.T) {
	_, signing := newKey(t)
	for name, file := range map[string]string{
		"gone": "", "blank": "\n\n", "too long": strings.Repeat("x", 17<<10), "another": "canary-typo", "half": "canary-ol",
		"key, cut": signing[:len(signing)-9], "another's key": signing,
	} {
		t.Run(name, func(t *testing.T) {
			overlap(t, func(t *testing.T, p *pair) {
				p.set(p.secrets, newID, "") // one credential is enough
				p.serves(oldID)
				before := p.lines("level=WARN")
				p.set(p.secrets, oldID, file)
				for range 3 {
					p.refreshed(1)
					p.Invalidate(p.serves(oldID))
					p.serves(oldID)
				}
				if p.lines("level=WARN") != before+1 || p.lines("the one before it serves") != 1 || p.State().Failures != 0 {
					t.Errorf("state %+v, log:\n%s", p.State(), p.log.String())
				}
				p.set(p.takes, oldID, "canary-fresh") // the one before is at its end
				p.set(p.secrets, oldID, "canary-fresh")
				p.refreshed(1)
				p.Invalidate(p.serves(oldID))
				p.serves(oldID)
				if last := p.sent[len(p.sent)-1]; !strings.Contains(last, "canary-fresh") {
					t.Errorf("the last POST was %s", last)
				}
			})
		})
	}
}

// TestCutKey: of a file that is being written, no part of a key is ever sent.
func TestCutKey(t *testing.T) {
	_, signing := newKey(t)
	const prefix = "secret-token:conductorone.com:v1:"
	overlap(t, func(t *testing.T, p *pair) {
		for end := len(prefix) + 4; end < len(signing); end++ {
			if key, err := credential.ParseSecret(signing[:end]); key != nil || err == nil {
				t.Fatalf("the first %d bytes of %d are a secret to be sent", end, len(signing))
			}
		}
		p.set(p.secrets, newID, signing[:len(signing)/2])
		p.serves(oldID)
		if all := fmt.Sprint(p.sent); strings.Contains(all, url.QueryEscape(prefix)) {
			t.Errorf("sent %s", all)
		}
	})
}

// TestNextConfig: what New refuses of two credentials.
func TestNextConfig(t *testing.T) {
	for name, change := range map[string]func(*credential.Config){
		"the same id":         func(c *credential.Config) { c.Next.ClientID = c.ClientID },
		"another host":        func(c *credential.Config) { c.Next.ClientID = "otter@evil.conductor.one/spc" },
		"no secret":           func(c *credential.Config) { c.Next.ClientSecret = nil },
		"two secrets":         func(c *credential.Config) { c.Next.SubjectToken = text("x") },
		"beside a token":      func(c *credential.Config) { c.ClientSecret, c.AccessToken = nil, text("x") },
		"DPoP beside a token": func(c *credential.Config) { c.ClientSecret, c.AccessToken, c.Next, c.DPoP = nil, text("x"), nil, true },
	} {
		cfg := config(nil)
		cfg.Next = &credential.Next{ClientID: newID, ClientSecret: text("x")}
		if _, err := credential.New(cfg); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if _, err := credential.New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestNextFederated: a subject token that is half written, and one of the next
// credential, are as a secret is.
func TestNextFederated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		subject := "e30.e30.one"
		e := &endpoint{answer: func(n int, r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			if form, _ := url.ParseQuery(string(body)); form.Get("subject_token") != "e30.e30.one" {
				return respond(400, `{"error":"invalid_request"}`), nil
			}
			return gives(600)(n, r)
		}}
		cfg := config(e)
		cfg.Next = &credential.Next{ClientID: newID, SubjectToken: func() (string, error) { return subject, nil }}
		s := newSource(t, cfg)
		first := want(t, s, "token-1")
		subject = "e30.e3"
		first.Answered(200, nil)
		s.Invalidate(first)
		if token := want(t, s, "token-3"); token.Credential() != newID {
			t.Errorf("the token is of %s", token.Credential())
		}
		if got := s.Credentials(); len(got) != 2 || got[0] != newID || got[1] != oldID {
			t.Errorf("credentials %v", got)
		}
	})
}
