package c1proxy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A canary is a secret that must be found nowhere but where it belongs.
type canary struct{ name, text string }

// A needle is one form of a canary.
type needle struct{ canary, form, text string }

// window is the length of the pieces of a long secret that are looked for: most
// of a secret is as good as the whole.
const window = 24

// needlesOf are the forms in which a canary could leave: as it is or a piece of
// it, in base64 wherever it begins in what was encoded, in hex, in a query, in
// JSON, and in JSON in JSON. Its SHA-256 is none.
func needlesOf(c canary) []needle {
	var found []needle
	add := func(form, text string) {
		for _, n := range found {
			if n.text == text {
				return
			}
		}
		found = append(found, needle{c.name, form, text})
	}
	own := c.own()
	add("raw", c.text)
	add("own", own)
	if len(own) >= 2*window {
		add("head", own[:window])
		add("middle", own[len(own)/2-window/2:][:window])
		add("tail", own[len(own)-window:])
	}
	for shift := range 3 {
		// The first letters depend on what stands before, the last on what follows.
		encoded := base64.StdEncoding.EncodeToString([]byte("xx"[:min(shift, 2)] + c.text))
		core := encoded[[]int{0, 2, 3}[shift] : len(encoded)-4]
		add("base64", core)
		add("base64url", strings.NewReplacer("+", "-", "/", "_").Replace(core))
	}
	add("hex", hex.EncodeToString([]byte(c.text)))
	add("HEX", strings.ToUpper(hex.EncodeToString([]byte(c.text))))
	add("query", url.QueryEscape(c.text))
	add("path", url.PathEscape(c.text))
	add("URL", (&url.URL{Path: "/" + c.text}).EscapedPath()[1:])
	quoted := quote(c.text)
	add("JSON", quoted)
	add("JSON in JSON", quote(quoted))
	plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(quoted)
	add("plain JSON", plain)
	add("plain JSON in JSON", strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(plain))
	return found
}

// own is what of a canary is secret: without the words that begin all of its
// kind, and without the name and the hash in a signing key.
func (c canary) own() string {
	if parts := strings.SplitN(c.text, "+", 5); len(parts) == 5 && parts[0] == "PRIVATE" {
		return parts[4]
	}
	return c.text[strings.LastIndex(c.text, ":")+1:]
}

// quote is a text as it stands in a JSON text, without the quotes.
func quote(text string) string {
	data, _ := json.Marshal(text) // a string marshals
	return string(data[1 : len(data)-1])
}

// A place is what left the process somewhere.
type place struct {
	name string
	data string
	// whose are the canaries that belong there: what a token endpoint was sent
	// holds assertions, and must hold no caller's key.
	whose []string
}

// hunt looks for every needle in every place.
func hunt(places []place, needles []needle) (hits []string) {
	for _, p := range places {
		for _, n := range needles {
			if slices.Contains(p.whose, n.canary) {
				continue
			}
			if at := strings.Index(p.data, n.text); at >= 0 {
				hits = append(hits, fmt.Sprintf("%s: the %s (%s), in %q", p.name, n.canary, n.form,
					strings.ReplaceAll(p.data[max(0, at-200):min(len(p.data), at+len(n.text)+40)], n.text, "<<HERE>>")))
			}
		}
	}
	return hits
}

// plant puts a canary into a text in one form, by another way than needlesOf.
var plant = map[string]func(secret string) string{
	"raw":         func(s string) string { return "x" + s + "y" },
	"cut":         func(s string) string { return s[:len(s)-1] },
	"base64":      func(s string) string { return base64.StdEncoding.EncodeToString([]byte("user:" + s)) },
	"base64 at 0": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s + "~")) },
	"base64 at 1": func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte("?" + s + "??")) },
	"hex":         func(s string) string { return fmt.Sprintf("%x", s) },
	"HEX":         func(s string) string { return fmt.Sprintf("%X", s) },
	"query":       func(s string) string { return url.Values{"k": {s}}.Encode() },
	"URL":         func(s string) string { return (&url.URL{Path: "/" + s + "/x"}).EscapedPath() },
	"JSON":        func(s string) string { data, _ := json.Marshal(map[string]string{"k": s}); return string(data) },
	"log line": func(s string) string {
		inner, _ := json.Marshal(map[string]string{"k": s})
		data, _ := json.Marshal(map[string]string{"msg": string(inner)})
		return string(data)
	},
}

// checkHunt plants each canary in each place and form, and finds all of them:
// a hunt that finds nothing has proved nothing.
func checkHunt(t *testing.T, places []place, canaries []canary) {
	t.Helper()
	planted := 0
	for _, c := range canaries {
		needles := needlesOf(c)
		for _, p := range places {
			if slices.Contains(p.whose, c.name) {
				continue
			}
			for form, put := range plant {
				if form == "cut" && len(c.own()) < 2*window {
					continue
				}
				half := p.data[:min(len(p.data)/2, 1000)]
				planted++
				if hunt([]place{{name: p.name, data: half + put(c.text) + half, whose: p.whose}}, needles) == nil {
					t.Errorf("the %s was put into %s as %s, and not found", c.name, p.name, form)
				}
			}
		}
	}
	t.Logf("planted %d times, each canary in each place in each form, and looked for it", planted)
}

// A witness notes all that comes back to a caller.
type witness struct {
	base http.RoundTripper
	mu   sync.Mutex
	text bytes.Buffer
	n    int
}

func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	fmt.Fprintf(&w.text, "%s\n", response.Status)
	response.Header.Write(&w.text)
	w.text.Write(body)
	response.Trailer.Write(&w.text)
	return response, err
}

// A hostile C1 answers on the wire as a server can that has gone mad: with what
// it was sent, where nobody looks for it. turn chooses among rants.
type hostile struct {
	url  string
	turn atomic.Int64
}

// rants are what a hostile C1 answers; %[1]s is what it was sent.
var rants = []string{
	"HTTP/1.1 %[1]s\r\n\r\n",
	"%[1]s\r\n\r\n",
	"HTTP/1.1 200 OK\r\n%[1]s\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%[1]s\r\n",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: %[1]s\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %[1]s\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n%[1]s",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"displayName\":\"%[1]s\"}",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"%[1]s\":\"x\"}",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"appId\":%[1]s}",
	"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<p>%[1]s</p>",
	"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/%[1]s\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 400 %[1]s\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"code\":3,\"message\":\"%[1]s\"}",
	"HTTP/1.1 429 Slow\r\nRetry-After: %[1]s\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"code\":8,\"message\":\"%[1]s\"}",
	"HTTP/1.1 500 %[1]s\r\nX-Echo: %[1]s\r\nConnection: close\r\n\r\n%[1]s",
	"HTTP/1.1 103 Early\r\nLink: %[1]s\r\n\r\nHTTP/1.1 101 %[1]s\r\nUpgrade: %[1]s\r\nConnection: Upgrade\r\n\r\n%[1]s",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"access_token\":\"%[1]s %[1]s\",\"token_type\":\"Bearer\"}",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"token_type\":\"%[1]s\",\"access_token\":\"\"}",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"access_token\":\"x\",\"expires_in\":\"%[1]s\"}",
	// The last, because c1proxy then asks no more for some seconds.
	"HTTP/1.1 401 %[1]s\r\nWWW-Authenticate: %[1]s\r\nConnection: close\r\n\r\n{\"error\":\"%[1]s\",\"error_description\":\"%[1]s\"}",
}

// listenHostile starts a hostile C1, each of whose answers gives away the
// Authorization header's credentials, or the body's, or, as a proxy, its own.
func listenHostile(t testing.TB) *hostile {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	h := &hostile{url: "http://" + listener.Addr().String()}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, sent, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if sent == "" {
			r.ParseForm()
			sent = r.PostForm.Get("client_secret")
		}
		if r.Method == http.MethodConnect {
			_, sent, _ = strings.Cut(r.Header.Get("Proxy-Authorization"), " ")
			user, _ := base64.StdEncoding.DecodeString(sent)
			sent += " " + string(user)
		}
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(buffer, rants[h.turn.Load()], sent)
		buffer.Flush()
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return h
}
