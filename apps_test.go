package c1proxy_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

// A caller is a plain HTTP client of C1's own paths, with a key in place of a C1
// token. It takes an answer if it is 200 and application/json.
type caller struct {
	client *http.Client
	server string
}

func newCaller(transport http.RoundTripper, server, key string) caller {
	source := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: key})
	return caller{client: &http.Client{Transport: &oauth2.Transport{Source: source, Base: transport}}, server: server}
}

// refusedBy is the error of an answer that is not 200.
type refusedBy struct {
	status int
	body   string
}

func (r refusedBy) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.body) }

// do makes a call with a query, nil for none, and a body, nil for none, and
// reads its answer. Without a body it has an empty Content-Type, as clients have
// it that set one for each verb.
func (o caller) do(verb, path string, query url.Values, body []byte) (map[string]any, error) {
	target, err := url.JoinPath(o.server, path)
	if err != nil {
		return nil, err
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewBuffer(body)
	}
	request, err := http.NewRequest(verb, target, reader)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if verb != http.MethodGet {
		request.Header.Set("Content-Type", map[bool]string{true: "application/json", false: ""}[body != nil])
	}
	if query != nil {
		request.URL.RawQuery = query.Encode()
	}
	response, err := o.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, refusedBy{response.StatusCode, string(data)}
	}
	if got := response.Header.Get("Content-Type"); got != "application/json" {
		return nil, fmt.Errorf("unknown content-type received: %s", got)
	}
	var answer map[string]any
	return answer, json.Unmarshal(data, &answer)
}

// apps lists the names of all apps by their ids, one page after the other.
func (o caller) apps(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for query := (url.Values{"page_size": {"2"}}); ; {
		answer, err := o.do("GET", "/api/v1/apps", query, nil)
		if err != nil {
			t.Fatal(err)
		}
		list, _ := answer["list"].([]any)
		if len(list) == 0 || len(list) > 2 {
			t.Fatalf("a page has %d apps, want 1 or 2", len(list))
		}
		for _, app := range list {
			app := app.(map[string]any)
			found[app["id"].(string)] = app["displayName"].(string)
		}
		token, _ := answer["nextPageToken"].(string)
		if token == "" {
			return found
		}
		query.Set("page_token", token)
	}
}

// app is the id and the name of the app in an answer.
func app(answer map[string]any) (id, name string) {
	app, _ := answer["app"].(map[string]any)
	id, _ = app["id"].(string)
	name, _ = app["displayName"].(string)
	return id, name
}

// A client of C1's that is told of c1proxy in place of C1, and given a key in
// place of a token, lists, creates, gets, changes and deletes over TLS. C1 sees
// the same calls, and the audit has each of them.
func TestApps(t *testing.T) {
	pair := filepath.Join(t.TempDir(), "pair.pem")
	writePair(t, pair)
	g := start(t, func(s *setup) {
		s.yaml = func(text string) string {
			return strings.NewReplacer(`listen: {address: "127.0.0.1:0"}`, fmt.Sprintf(`listen: {address: "127.0.0.1:0", tls: {cert_file: %s, key_file: %s}}`, pair, pair),
				"c1.api.app.v1.ConnectorService/*", "c1.api.app.v1.Apps/*").Replace(text)
		}
	})
	g.insecure = &tls.Config{InsecureSkipVerify: true} // the certificate is made for this test
	for _, http1 := range []bool{true, false} {
		t.Run(map[bool]string{true: "HTTP1", false: "HTTP2"}[http1], func(t *testing.T) {
			o := newCaller(g.httpClient(http1).Transport, g.url, g.keys["sync-bot"])
			g.c1.Reset()
			before := o.apps(t)
			if len(before) < 3 {
				t.Fatalf("there are %d apps, want several pages", len(before))
			}
			g.c1.Reset()
			manageApps(t, g, o)
			if diff := len(o.apps(t)) - len(before); diff != 0 {
				t.Errorf("%d apps are left", diff)
			}
		})
	}
}

// manageApps makes two apps, changes one and deletes both.
func manageApps(t *testing.T, g *gateway, o caller) {
	var ids []string
	for _, name := range []string{"Payroll", "Ärger & Söhne / <b>"} {
		body, err := json.Marshal(map[string]any{"displayName": name, "owners": []string{"a", "b"}, "monthlyCostUsd": 7})
		if err != nil {
			t.Fatal(err)
		}
		id, got := app(must(t)(o.do("POST", "/api/v1/apps", nil, body)))
		if id == "" || got != name {
			t.Fatalf("created %q, %q, want an id and %q", id, got, name)
		}
		if again, got := app(must(t)(o.do("GET", "/api/v1/apps/"+id, nil, nil))); again != id || got != name || o.apps(t)[id] != name {
			t.Errorf("got %q, %q, want %q, %q", again, got, id, name)
		}
		ids = append(ids, id)
	}
	must(t)(o.do("POST", "/api/v1/apps/"+ids[0], nil, []byte(`{"app":{"displayName":"Wages","description":"unasked"},"updateMask":"displayName"}`)))
	changed := must(t)(o.do("GET", "/api/v1/apps/"+ids[0], nil, nil))
	if _, name := app(changed); name != "Wages" || strings.Contains(fmt.Sprint(changed), "unasked") {
		t.Errorf("after the change it is %v", changed)
	}
	must(t)(o.do("DELETE", "/api/v1/apps/"+ids[0], nil, []byte(`{}`)))
	must(t)(o.do("DELETE", "/api/v1/apps/"+ids[1], nil, nil))
	for _, id := range ids {
		_, err := o.do("GET", "/api/v1/apps/"+id, nil, nil)
		refused, ok := err.(refusedBy)
		if !ok || refused.status != http.StatusNotFound || !strings.Contains(refused.body, `"code":5`) || !strings.Contains(refused.body, "UPSTREAM_REFUSED") {
			t.Errorf("a deleted app: got %v, want 404 with a google.rpc.Status", err)
		}
	}

	var seen []string
	for _, request := range g.c1.Requests() {
		if strings.HasPrefix(request.URI, "/api/") && !strings.Contains(request.URI, "page_size=") {
			seen = append(seen, request.Method+" "+request.URI)
			records := g.records(request.Header.Get("X-Request-Id"))
			if len(records) != 2 || records[0].Door != "rest" || records[0].Caller != "sync-bot" {
				t.Errorf("%s %s has the records %+v, want the intent and the outcome of sync-bot", request.Method, request.URI, records)
			}
		}
	}
	one, two := "/api/v1/apps/"+ids[0], "/api/v1/apps/"+ids[1]
	want := []string{"POST /api/v1/apps", "GET " + one, "POST /api/v1/apps", "GET " + two, "POST " + one, "GET " + one, "DELETE " + one, "DELETE " + two, "GET " + one, "GET " + two}
	if !slices.Equal(seen, want) {
		t.Errorf("C1 saw\n%s\nwant\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
}

// must fails the test on an error.
func must(t *testing.T) func(map[string]any, error) map[string]any {
	return func(answer map[string]any, err error) map[string]any {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}
