package c1proxy_test

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// A paste is a command of the demo's or of the README's, read as a shell and then
// curl, grpcurl or buf would.
type paste struct {
	program, target, data, authorization string
	get                                  bool // the data stands in the query
}

// words splits a command as a shell does: quotes of both kinds, no escapes.
var words = regexp.MustCompile(`'([^']*)'|"([^"]*)"|(\S+)`)

// readPaste gives $KEY its value.
func readPaste(command, key string) paste {
	var all []string
	for _, found := range words.FindAllStringSubmatch(command, -1) {
		all = append(all, found[1]+found[2]+found[3])
	}
	p := paste{program: all[0]}
	for i, word := range all[1:] {
		switch {
		case all[i] == "-d":
			p.data = strings.TrimPrefix(p.data+"&"+word, "&")
		case all[i] == "--data-urlencode":
			name, text, _ := strings.Cut(word, "=")
			p.data = strings.TrimPrefix(p.data+"&"+name+"="+url.QueryEscape(text), "&")
		case word == "-G":
			p.get = true
		case strings.HasPrefix(word, "Authorization: Bearer "):
			p.authorization = strings.ReplaceAll(strings.TrimPrefix(word, "Authorization: "), "$KEY", key)
		case strings.Contains(word, "127.0.0.1:"):
			p.target = "http://" + strings.TrimPrefix(word, "http://")
		case p.program == "grpcurl" && strings.Contains(word, "/"):
			p.target += "/" + word
		}
	}
	return p
}

// pasted finds the commands in a text.
func pasted(text, key string) []paste {
	var found []paste
	for _, match := range commands.FindAllStringSubmatch(text, -1) {
		found = append(found, readPaste(strings.ReplaceAll(match[1], "\\\n", " "), key))
	}
	return found
}

var commands = regexp.MustCompile(`(?m)^    ((?:curl|grpcurl|buf curl|go tool) (?:.*\\\n)*.*)$`)

// send sends what the program would, in JSON.
func (p paste) send(t *testing.T) (status, body string) {
	t.Helper()
	verb, target := http.MethodPost, p.target
	if p.get {
		target += "?" + p.data
	}
	if p.get || p.data == "" {
		verb, p.data = http.MethodGet, ""
	}
	request, err := http.NewRequestWithContext(t.Context(), verb, target, strings.NewReader(p.data))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", p.authorization)
	if p.data != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.Status, string(data)
}

// demoText runs the demo and returns what it prints, all of it.
func demoText(t *testing.T) string {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, "demo", "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	var text strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "Stop with Ctrl-C") {
			break
		}
	}
	return text.String()
}

// What a new user pastes works: each call that the demo prints is answered as
// it says.
func TestDemo(t *testing.T) {
	text := demoText(t)
	console := regexp.MustCompile(`(?m)^    (http://127\.0\.0\.1:\d+/console/)\n    c1p_\S+$`).FindStringSubmatch(text)
	if console == nil {
		t.Fatalf("no console in\n%s", text)
	}
	if status, body := (paste{target: console[1]}).send(t); status != "200 OK" || !strings.Contains(body, "<title>c1proxy console</title>") {
		t.Errorf("%s answers %s: %s", console[1], status, body)
	}
	key := regexp.MustCompile(`export KEY='(c1p_[^']+)'`).FindStringSubmatch(text)
	if key == nil || !strings.Contains(text, "All 638 operations") {
		t.Fatalf("the demo printed\n%s", text)
	}
	var got []string
	for _, p := range pasted(text, key[1]) {
		status, body := p.send(t)
		got = append(got, p.program+" "+status)
		if (strings.HasSuffix(p.target, "/Search") || strings.HasSuffix(p.target, "/apps")) && !strings.Contains(body, `"displayName":"Payroll"`) {
			t.Errorf("%s answers %s", p.target, body)
		}
	}
	want := "curl 200 OK, grpcurl 400 Bad Request, buf 400 Bad Request, curl 200 OK, grpcurl 200 OK, curl 200 OK, curl 200 OK, curl 200 OK"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %v, want %s, of\n%s", got, want, text)
	}
}
