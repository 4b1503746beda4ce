package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Settings are what the page is told. All of it is public.
type Settings struct {
	// Issuer is the URL of the OIDC issuer that one signs in with; "" for none.
	Issuer string `json:"issuer,omitempty"`
	// ClientID is the console's client id there.
	ClientID string   `json:"client_id,omitempty"`
	Scopes   []string `json:"scopes,omitempty"`
	// Resource is a resource indicator (RFC 8707); "" for none.
	Resource string `json:"resource,omitempty"`
	// Version is the gateway's.
	Version string `json:"version,omitempty"`
}

// A Page is the console as one configuration has it. It is not changed.
type Page struct {
	settings *file
	origins  []string
	// more are URLs that may come to be known; nil is legal.
	more func() []string
}

// NewPage returns the page that is told some settings. It may connect to the
// gateway, to the issuer, and to the origins of the URLs that more returns, which
// is called for each answer; nil is legal.
func NewPage(s Settings, more func() []string) (*Page, error) {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the console's settings: %w", err)
	}
	p := &Page{settings: newFile(settings, anew, append(text, '\n')), more: more}
	if s.Issuer != "" {
		p.origins = append(p.origins, origin(s.Issuer))
	}
	return p, nil
}

// hsts is for how long a browser that came by TLS comes by it again.
const hsts = "max-age=31536000"

// guard sets the headers of every answer. They let the page run its own files,
// and speak with its server and its issuer, and nothing else; and let no other
// page have it in a frame, or a hand on its window.
func (p *Page) guard(header http.Header, tls bool) {
	for name, value := range map[string]string{
		"Content-Security-Policy":      p.policy(),
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Permissions-Policy":           "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
		"Referrer-Policy":              "no-referrer",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
	} {
		header.Set(name, value)
	}
	if tls {
		header.Set("Strict-Transport-Security", hsts)
	}
}

// policy is the Content-Security-Policy.
func (p *Page) policy() string {
	connect := append([]string{"'self'"}, p.origins...)
	if p.more != nil {
		for _, at := range p.more() {
			connect = append(connect, origin(at))
		}
	}
	slices.Sort(connect[1:])
	connect = slices.DeleteFunc(slices.Compact(connect), func(one string) bool { return one == "" })
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src " + strings.Join(connect, " ") +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
}

// host is a name or an address that can stand in a policy: nothing in it ends a
// source or a directive there.
var host = regexp.MustCompile(`^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// origin is the origin of a URL, as a policy has it; "" if it has none.
func origin(at string) string {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || !host.MatchString(u.Host) {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
