package credential_test

import (
	"strings"
	"testing"

	"github.com/c1proxy/c1proxy/internal/credential"
)

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*credential.Config)
		want   []string // parts of the error; none if there is none
	}{
		{"sound", func(c *credential.Config) {}, nil},
		{"other case", func(c *credential.Config) { c.ClientID = "fox@ACME.Conductor.One/spc" }, nil},
		{"case in the URL", func(c *credential.Config) { c.URL = parse("https://ACME.conductor.one") }, nil},
		{"port in the URL", func(c *credential.Config) { c.URL = parse("https://acme.conductor.one:8443/") }, nil},
		{"port in the id", func(c *credential.Config) { c.ClientID = "fox@acme.conductor.one:2443/spc" }, nil},
		{"longer use", func(c *credential.Config) { c.ClientID = "fox@acme.conductor.one/spc/a" }, nil},
		{"IPv6", func(c *credential.Config) { c.URL, c.ClientID = parse("http://[::1]:80"), "fox@[::1]/spc" }, nil},
		{"static", func(c *credential.Config) { c.ClientID, c.ClientSecret, c.AccessToken = "", nil, text("x") }, nil},

		{"other host", func(c *credential.Config) { c.ClientID = "fox@evil.conductor.one/spc" }, []string{"acme.conductor.one", "evil.conductor.one"}},
		{"longer host", func(c *credential.Config) { c.ClientID = "fox@acme.conductor.one.evil.com/spc" }, []string{"evil.com"}},
		{"no host", func(c *credential.Config) { c.ClientID = "fox@/spc" }, []string{"client id", "fox@/spc"}},
		{"no at", func(c *credential.Config) { c.ClientID = "acme.conductor.one/spc" }, []string{"client id"}},
		{"two ats", func(c *credential.Config) { c.ClientID = "fox@evil@acme.conductor.one/spc" }, []string{"client id"}},
		{"no use", func(c *credential.Config) { c.ClientID = "fox@acme.conductor.one" }, []string{"client id"}},
		{"space", func(c *credential.Config) { c.ClientID = "fox@acme.conductor.one /spc" }, []string{"not a host"}},
		{"no id", func(c *credential.Config) { c.ClientID = "" }, []string{"client id"}},
		{"long id", func(c *credential.Config) { c.ClientID = strings.Repeat("x", 1000) }, []string{"xxx\"..."}},

		{"no URL", func(c *credential.Config) { c.URL = nil }, []string{"tenant URL"}},
		{"other scheme", func(c *credential.Config) { c.URL = parse("ftp://acme.conductor.one") }, []string{"ftp"}},
		{"user", func(c *credential.Config) { c.URL = parse("https://user:canary@acme.conductor.one") }, []string{"user name"}},
		{"path", func(c *credential.Config) { c.URL = parse("https://acme.conductor.one/api") }, []string{"more than a host"}},
		{"query", func(c *credential.Config) { c.URL = parse("https://acme.conductor.one/?a=b") }, []string{"more than a host"}},
		{"opaque", func(c *credential.Config) { c.URL = parse("https:acme.conductor.one") }, []string{"no host"}},

		{"no secret", func(c *credential.Config) { c.ClientSecret = nil }, []string{"exactly one"}},
		{"two secrets", func(c *credential.Config) { c.SubjectToken = text("x") }, []string{"exactly one"}},
		{"three secrets", func(c *credential.Config) { c.SubjectToken, c.AccessToken = text("x"), text("x") }, []string{"exactly one"}},
	} {
		cfg := config(nil)
		tt.change(&cfg)
		s, err := credential.New(cfg)
		if (err == nil) != (tt.want == nil) || (s == nil) != (err != nil) {
			t.Errorf("%s: New = %v, %v", tt.name, s, err)
			continue
		}
		for _, part := range tt.want {
			if !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), `"acme"`) {
				t.Errorf("%s: error %q does not name %q and the tenant", tt.name, err, part)
			}
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error quotes a password: %v", tt.name, err)
		}
	}
}

// TestURLIsCopied: a URL that its owner changes later moves no token.
func TestURLIsCopied(t *testing.T) {
	cfg := config(&endpoint{answer: gives(600)})
	s := newSource(t, cfg)
	cfg.URL.Host = "evil.example"
	if host := want(t, s, "token-1").Host(); host != "acme.conductor.one" {
		t.Errorf("the token is for %s", host)
	}
}

func FuzzClientHost(f *testing.F) {
	for _, id := range []string{
		"clever-fox-42195@acme.conductor.one/spc", "a@b/c", "a@[::1]:80/c", "@/", "a@b@c/d", "a@b\x00/c", "a@%41/c",
		"a@b:99999/c", "a@user:pw@b/c", "a@b?x/c", "a@b#x/c", "a@[/c",
	} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		host, err := credential.ClientHost(id)
		if (host == "") != (err != nil) {
			t.Fatalf("%q: host %q, error %v", id, host, err)
		}
		if err != nil {
			return
		}
		if host != strings.ToLower(host) || strings.ContainsAny(host, "@/?#\\ \t\r\n\x00") {
			t.Fatalf("%q: host %q", id, host)
		}
		_, rest, _ := strings.Cut(id, "@")
		if !strings.Contains(host, "%") && !strings.Contains(strings.ToLower(rest), host) {
			t.Fatalf("%q: host %q is not in it", id, host)
		}
	})
}

func FuzzSecret(f *testing.F) {
	_, secret := newKey(f)
	f.Add(secret)
	f.Add("secret-token:conductorone.com:v1:eyJrdHkiOiJPS1AifQ")
	f.Add("secret-token:conductorone.com:v1:" + strings.Repeat("A", 100))
	f.Add("secret-token:::")
	f.Add("opaque")
	f.Fuzz(func(t *testing.T, secret string) {
		key, err := credential.ParseSecret(secret)
		switch {
		case key != nil && err != nil:
			t.Fatalf("a key and an error: %v", err)
		case key != nil:
			if _, err := credential.Sign(key, "a@b/c", "b"); err != nil {
				t.Fatalf("a key that does not sign: %v", err)
			}
		case err != nil && err.Error() != "read client secret: its JWK is not an Ed25519 private key" &&
			err.Error() != "read client secret: its JWK is not whole":
			t.Fatalf("an error that may quote the secret: %v", err)
		}
	})
}
