package c1proxy_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// startConsole starts a gateway with a console.
func startConsole(t testing.TB) *gateway {
	return start(t, func(s *setup) { s.yaml = func(text string) string { return text + "console: {}\n" } })
}

// file asks for a path as it is spelled.
func (g *gateway) file(client *http.Client, method, path string, header http.Header) (*http.Response, string) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, g.url, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	r.URL.Opaque = path
	r.Header = header
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if r.Header.Get("Accept-Encoding") == "" {
		r.Header.Set("Accept-Encoding", "identity") // so that Go does not ask for gzip by itself
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return response, string(body)
}

// policyOf is the policy of a console whose page may connect to origins more.
func policyOf(origins string) string {
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'" + origins +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
}

// guarded holds the headers that every answer below /console/ has.
func guarded(t *testing.T, what string, header http.Header, origins string) {
	t.Helper()
	for name, want := range map[string]string{"Content-Security-Policy": policyOf(origins), "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
		"Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()", "Set-Cookie": "", "Access-Control-Allow-Origin": ""} {
		if got := strings.Join(header[http.CanonicalHeaderKey(name)], "|"); got != want {
			t.Errorf("%s: %s is %q, want %q", what, name, got, want)
		}
	}
}

// Every file of the console is served on both versions of HTTP with its type, its
// age and its guards, as a whole and to HEAD, packed and unpacked, and not again to
// who has it. None of that is a call: it has no record.
func TestConsoleFiles(t *testing.T) {
	g := startConsole(t)
	before := g.recordCount()
	const forever, anew = "public, max-age=31536000, immutable", "no-cache"
	_, page := g.file(g.httpClient(true), "GET", "/console/", nil)
	files := map[string][2]string{"/console/": {"text/html; charset=utf-8", anew}, "/console/config.json": {"application/json", anew},
		"/console/descriptors.binpb": {"application/x-protobuf", anew}, "/console/icon.svg": {"image/svg+xml", anew}}
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
	for _, path := range regexp.MustCompile(`/console/assets/[^"]+`).FindAllString(page, -1) {
		files[path] = [2]string{types[filepath.Ext(path)], forever}
	}
	if len(files) < 6 {
		t.Errorf("the page names too few files: %v", files)
	}
	for _, http1 := range []bool{true, false} {
		client := g.httpClient(http1)
		for path, want := range files {
			what := fmt.Sprintf("%s, HTTP/1.1 %v", path, http1)
			response, body := g.file(client, "GET", path, nil)
			if got := [2]string{response.Header.Get("Content-Type"), response.Header.Get("Cache-Control")}; response.StatusCode != 200 || got != want || body == "" || response.ContentLength != int64(len(body)) {
				t.Errorf("%s: %d, %q with %d bytes, want %q", what, response.StatusCode, got, len(body), want)
			}
			guarded(t, what, response.Header, "")
			tag := response.Header.Get("ETag")
			head, none := g.file(client, "HEAD", path, nil)
			if head.StatusCode != 200 || none != "" || head.ContentLength != int64(len(body)) || head.Header.Get("ETag") != tag {
				t.Errorf("%s: HEAD is %d %q with %v", what, head.StatusCode, none, head.Header)
			}
			for _, known := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
				if again, none := g.file(client, "GET", path, http.Header{"If-None-Match": {known}}); again.StatusCode != 304 || none != "" || again.Header.Get("ETag") != tag {
					t.Errorf("%s: again with %s: %d %q", what, known, again.StatusCode, none)
				}
			}
			if changed, _ := g.file(client, "GET", path, http.Header{"If-None-Match": {`"x"`}}); changed.StatusCode != 200 {
				t.Errorf("%s: with another tag: %d", what, changed.StatusCode)
			}
			checkPacked(t, g, client, path, body, tag)
		}
	}
	if got := g.recordCount(); got != before {
		t.Errorf("files of the console made %d records", got-before)
	}
}

// checkPacked holds that a file that comes compressed is the same, under a tag of
// its own, and comes so only to who takes it.
func checkPacked(t *testing.T, g *gateway, client *http.Client, path, want, tag string) {
	t.Helper()
	for accepted, packs := range map[string]bool{"gzip": true, "br, GZIP;q=0.5": true, "*": true, "gzip;q=0": false, "gzip;q=0.0, *": false, "br": false} {
		response, body := g.file(client, "GET", path, http.Header{"Accept-Encoding": {accepted}})
		if packed := response.Header.Get("Content-Encoding") == "gzip"; packed != (packs && len(want) > 1024) || response.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s to %q: %v", path, accepted, response.Header)
		} else if packed {
			r, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != want || response.Header.Get("ETag") == tag {
				t.Errorf("%s packed is another file, or has the tag of the unpacked one: %v", path, err)
			}
		}
	}
}

// What is no file of the console is not found, however its path is spelled, and
// nothing but reading is possible.
func TestConsoleRefusals(t *testing.T) {
	g := startConsole(t)
	for _, http1 := range []bool{true, false} {
		client := g.httpClient(http1)
		for path, want := range map[string]int{
			"/console": 307, "/console?code=x": 307, "/console/index.html": 307, "/console/?code=x&state=y": 200,
			"/console/x": 404, "/console/assets": 404, "/console/assets/": 404, "/console//": 404, "/console/./": 404, "/console/../console/": 404,
			"/console/..%2fembed.go": 404, "/console/%2e%2e/embed.go": 404, "/console/../embed.go": 404, "/console/embed.go": 404, "/console/dist/index.html": 404,
			"/console/%69ndex.html": 404, "/console/config.json/": 404, "/console/config.json%00": 404, "/console/icon.svg\\": 404, "/console/INDEX.HTML": 404,
		} {
			response, body := g.file(client, "GET", path, nil)
			if response.StatusCode != want || want == 307 && response.Header.Get("Location") != "/console/" || want == 404 && !strings.Contains(body, "The console is at /console/") {
				t.Errorf("%s: %d %q %v, want %d", path, response.StatusCode, body, response.Header["Location"], want)
			}
			guarded(t, path, response.Header, "")
		}
		for _, path := range []string{"/consol", "/consolex", "/Console/", "/x/console/", "/%63onsole/"} {
			if response, body := g.file(client, "GET", path, nil); response.StatusCode != 404 || !strings.Contains(body, "no such procedure") && path != "/%63onsole/" {
				t.Errorf("%s: %d %q", path, response.StatusCode, body)
			}
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "FOO"} {
			response, _ := g.file(client, method, "/console/", http.Header{"Origin": {page}, "Access-Control-Request-Method": {"GET"}})
			if response.StatusCode != 405 || response.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s: %d %v", method, response.StatusCode, response.Header)
			}
			guarded(t, method, response.Header, "")
		}
	}
}

// No procedure and none of C1's own paths lies where the console does.
func TestConsoleHasItsPath(t *testing.T) {
	for _, method := range operations(t) {
		if strings.HasPrefix("/"+string(method.Parent().FullName()), "/console") {
			t.Errorf("%s would be hidden by the console", method.FullName())
		}
	}
	g := startConsole(t)
	if status, _, body := do(t, g.httpClient(true), g.post(listMethod, g.keys["sync-bot"], `{"appId":"`+g.facts.AppID+`"}`)); status != 200 {
		t.Errorf("a call beside the console: %d %s", status, body)
	}
}

// The descriptors are of all that can be called, whole, and read in their order.
func TestConsoleDescriptors(t *testing.T) {
	g := startConsole(t)
	_, body := g.file(g.httpClient(true), "GET", "/console/descriptors.binpb", nil)
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal([]byte(body), &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, file := range set.GetFile() {
		for _, name := range file.GetDependency() {
			if !seen[name] {
				t.Errorf("%s comes before %s, which it imports", file.GetName(), name)
			}
		}
		seen[file.GetName()] = true
	}
	names := []protoreflect.FullName{"c1proxy.v1.GatewayService.WhoAmI", "c1proxy.v1.AuditService.Query"}
	for _, method := range operations(t) {
		names = append(names, method.FullName())
	}
	for _, name := range names {
		if _, err := files.FindDescriptorByName(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write([]byte(body))
	_ = w.Close()
	if packed.Len() > 400<<10 {
		t.Errorf("%d bytes compressed", packed.Len())
	}
	if _, again := startConsole(t).file(g.httpClient(true), "GET", "/console/descriptors.binpb", nil); again != body {
		t.Error("another start has other descriptors")
	}
}

// The page is told what the configuration says, and may speak with the issuer,
// wherever that has its token endpoint, and with nobody else. A reload changes all
// of it, down to that there is no console: then its paths are like any that is none.
func TestConsoleIssuer(t *testing.T) {
	e := newEdge(t)
	e.issuer.tokens = "https://tokens.example.com:8443/oauth/token"
	const block = "console: {issuer: login, client_id: the-console, scopes: [openid, email], resource: \"urn:c1proxy\"}\n"
	g := start(t, func(s *setup) { s.yaml = func(text string) string { return e.configure(text) + block } })
	g.insecure = &tls.Config{InsecureSkipVerify: true} // the certificate is made for this test
	client := g.httpClient(false)
	e.await(g)
	told := func() string {
		t.Helper()
		response, body := g.file(client, "GET", "/console/config.json", nil)
		var settings map[string]any
		if err := json.Unmarshal([]byte(body), &settings); response.StatusCode == 200 && err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		return fmt.Sprintf("%d %v %s", response.StatusCode, settings, response.Header.Get("Strict-Transport-Security"))
	}
	url := e.issuer.server.URL
	if got, want := told(), "200 map[client_id:the-console issuer:"+url+" resource:urn:c1proxy scopes:[openid email] version:test] max-age=31536000"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	response, _ := g.file(client, "GET", "/console/", nil)
	guarded(t, "with an issuer", response.Header, " "+url+" https://tokens.example.com:8443")
	tag := response.Header.Get("ETag")

	if err := g.reload(replaced(t, g.text, block, "console: {issuer: "+url+", client_id: other}\n")); err != nil {
		t.Fatal(err)
	}
	if got, want := told(), "200 map[client_id:other issuer:"+url+" scopes:[openid] version:test] max-age=31536000"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	response, _ = g.file(client, "GET", "/console/", nil)
	guarded(t, "reloaded", response.Header, " "+url+" https://tokens.example.com:8443")
	if response.Header.Get("ETag") != tag {
		t.Error("the page has another tag after a reload")
	}
	if err := g.reload(replaced(t, g.text, block, "console: {}\n")); err != nil {
		t.Fatal(err)
	}
	if got, want := told(), "200 map[version:test] max-age=31536000"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := g.reload(replaced(t, g.text, block, "")); err != nil {
		t.Fatal(err)
	}
	_, unmatched := g.file(client, "GET", "/nothing/here", nil)
	for _, path := range []string{"/console", "/console/", "/console/config.json", "/console/assets/x.js"} {
		response, body := g.file(client, "GET", path, nil)
		if response.StatusCode != 404 || body != unmatched || response.Header.Get("Content-Security-Policy") != "" {
			t.Errorf("%s without a console: %d %q", path, response.StatusCode, body)
		}
	}
}

// What an issuer's document says of its token endpoint cannot add to the policy.
func TestConsoleHostileEndpoint(t *testing.T) {
	for _, endpoint := range []string{"https://a.example;script-src *", "https://*/x", "https://a.example,b", "http://a.example/token", "https://user@a.example/", "javascript:alert(1)", "https://a'b/", ""} {
		e := newEdge(t)
		e.issuer.tokens = endpoint
		g := start(t, func(s *setup) {
			s.yaml = func(text string) string { return e.configure(text) + "console: {issuer: login, client_id: x}\n" }
		})
		g.insecure = &tls.Config{InsecureSkipVerify: true} // the certificate is made for this test
		e.await(g)
		response, _ := g.file(g.httpClient(false), "GET", "/console/", nil)
		guarded(t, endpoint, response.Header, " "+e.issuer.server.URL)
	}
}
