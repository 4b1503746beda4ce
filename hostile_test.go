package c1proxy_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// P11's bounds, of one attack.
const (
	mostMemory = 64 * mib
	mostCPU    = time.Second
	mostTime   = 10 * time.Second
	// grace is what a loaded machine may take to show that a time is over, besides
	// what it is seen to be late.
	grace = 2 * time.Second
)

// A lateness tells how late the machine is, by how long it oversleeps.
type lateness struct{ most atomic.Int64 }

// oversleeps watches the machine until the test has ended.
func oversleeps(t *testing.T) *lateness {
	l, ctx := new(lateness), t.Context()
	go func() {
		const nap = 100 * time.Millisecond
		for ctx.Err() == nil {
			begun := time.Now()
			time.Sleep(nap)
			l.most.Store(max(l.most.Load(), int64(time.Since(begun)-nap)))
		}
	}()
	return l
}

// grace is that of a time that is over.
func (l *lateness) grace() time.Duration { return grace + time.Duration(l.most.Load()) }

// A siege is a gateway under attack, with a bystander.
type siege struct {
	*gateway
	t       *testing.T
	process *process
	key     string
	// configFile is what it was started with.
	configFile string
}

// besiege starts the real program with a caller who may call everything.
func besiege(t *testing.T, changes ...func(string) string) *siege {
	t.Helper()
	changes = append(changes, func(text string) string {
		return strings.Replace(text, `methods: ["c1.api.app.v1.ConnectorService/*"]`, `methods: ["c1.**/*"]`, 1)
	})
	g, configFile := prepare(t, sandbox.Config{}, changes...)
	s := &siege{gateway: g, t: t, process: serveBinary(t, configFile), key: g.keys["sync-bot"], configFile: configFile}
	s.url = s.process.url
	t.Cleanup(s.process.kill)
	until(t, "it is ready", func() bool { return s.process.ready() == 200 })
	return s
}

// An attack does something nasty and says what became of it; an error is what
// should not have.
type attack struct {
	name string
	run  func(*siege) (string, error)
}

// suffer runs one attack and holds P11's bounds against it.
func (s *siege) suffer(a attack, longest time.Duration) {
	s.t.Helper()
	others := s.stand()
	s.process.forgetPeak()
	memory, cpu, begun := s.process.status("VmRSS"), s.process.cpu(), time.Now()
	outcome, err := a.run(s)
	took := time.Since(begun)
	others.stop()
	grown, used := s.process.status("VmHWM")-memory, s.process.cpu()-cpu
	s.t.Logf("%-40s %-52s %6d ms, %4d ms of CPU, %+4d MiB; %s", a.name, outcome, took.Milliseconds(), used.Milliseconds(), grown/mib, others)
	switch {
	case err != nil:
		s.t.Errorf("%s: %v", a.name, err)
	case grown > mostMemory || used > mostCPU || took > longest+grace:
		s.t.Errorf("%s: over its bounds", a.name)
	case others.failed.Load() > 0 || others.calls.Load() == 0:
		s.t.Errorf("%s: others were not served", a.name)
	}
}

// A message is a call's, for one door.
type message struct {
	door    string
	http1   bool
	path    string
	media   string
	coding  string
	body    io.Reader
	trailer bool // the code is in grpc-status
}

const confirmREST = "/api/v1/apps/app/connectors/connector/confirm_sync_valid/nodata-1"

// onDoors makes the same JSON message for each door.
func onDoors(procedure, rest, json string) []message {
	return []message{
		{door: "Connect", http1: true, path: procedure, media: "application/json", body: strings.NewReader(json)},
		{door: "Connect h2c", path: procedure, media: "application/json", body: strings.NewReader(json)},
		{door: "gRPC", path: procedure, media: "application/grpc+json", body: envelope(0, []byte(json)), trailer: true},
		{door: "REST", http1: true, path: rest, media: "application/json", body: strings.NewReader(json)},
	}
}

// envelope is gRPC's, around a message.
func envelope(flags byte, data []byte) io.Reader {
	n := len(data)
	prefix := []byte{flags, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	return io.MultiReader(bytes.NewReader(prefix), bytes.NewReader(data))
}

// send sends a message and returns the code of its answer: an HTTP status, or
// a gRPC one. A caller who is cut off while it sends gets "cut off".
func (s *siege) send(m message) string {
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+m.path, m.body)
	if err != nil {
		return err.Error()
	}
	r.Header.Set("Content-Type", m.media)
	r.Header.Set("Authorization", "Bearer "+s.key)
	if m.coding != "" {
		name := "Content-Encoding"
		if m.trailer {
			name = "Grpc-Encoding"
		}
		r.Header.Set(name, m.coding)
	}
	response, err := s.httpClient(m.http1).Do(r)
	if err != nil {
		return "cut off"
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	if !m.trailer {
		return response.Status[:3]
	}
	for _, header := range []http.Header{response.Header, response.Trailer} {
		if code := header.Get("Grpc-Status"); code != "" {
			return "grpc-status " + code
		}
	}
	return "grpc " + response.Status[:3]
}

// each sends one message after the other and wants one of the codes for each.
func each(messages func() []message, want ...string) func(*siege) (string, error) {
	return func(s *siege) (string, error) {
		var said []string
		var errs []error
		for _, m := range messages() {
			code := s.send(m)
			said = append(said, m.door+" "+code)
			if !strings.Contains(" "+strings.Join(want, " ; ")+" ", " "+code+" ") {
				errs = append(errs, fmt.Errorf("%s: got %s, want one of %v", m.door, code, want))
			}
		}
		return strings.Join(said, ", "), errors.Join(errs...)
	}
}

// bomb is so many MiB of zeros, in as many gzip members of 1 KiB.
func bomb(size int) []byte {
	var member bytes.Buffer
	w, _ := gzip.NewWriterLevel(&member, gzip.BestCompression) // the level exists
	w.Write(make([]byte, mib))
	w.Close()
	return bytes.Repeat(member.Bytes(), size)
}

func bombs(size int) func() []message {
	return func() []message {
		data := bomb(size)
		return []message{
			{door: "Connect", http1: true, path: "/" + confirmMethod, media: "application/json", coding: "gzip", body: bytes.NewReader(data)},
			{door: "gRPC", path: "/" + confirmMethod, media: "application/grpc", coding: "gzip", body: envelope(1, data), trailer: true},
			{door: "gRPC-Web", path: "/" + confirmMethod, media: "application/grpc-web+proto", coding: "gzip", body: envelope(1, data), trailer: true},
			{door: "REST", http1: true, path: confirmREST, media: "application/json", coding: "gzip", body: bytes.NewReader(data)},
		}
	}
}

// endless is a reader of n bytes of white space that does not say how many.
func endless(n int64) io.Reader { return io.LimitReader(blanks{}, n) }

type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func endlessBodies() []message {
	messages := onDoors("/"+confirmMethod, confirmREST, "")
	for i := range messages {
		messages[i].body = endless(8 << 30)
		if messages[i].trailer { // an envelope that promises 4 GiB
			messages[i].body = io.MultiReader(bytes.NewReader([]byte{0, 255, 255, 255, 255}), endless(8<<30))
		}
	}
	return messages
}

// crowds are messages of 4 MiB that are very many small things.
func crowds() []message {
	const search, rest = "/c1.api.user.v1.UserSearch/Search", "/api/v1/search/users"
	const grant, grantREST = "/c1.api.task.v1.TaskService/CreateGrantTask", "/api/v1/task/grant"
	many := func(before, one string, after string) string {
		return before + strings.Repeat(one+",", (4*mib-100)/(len(one)+1)) + one + after
	}
	messages := onDoors(search, rest, many(`{"refs":[`, "{}", "]}"))
	messages = append(messages, onDoors(grant, grantREST, many(`{"requestData":{"a":[`, "0", "]}}"))...)
	messages = append(messages, onDoors(grant, grantREST, many(`{"requestData":{"a":[`, "{}", "]}}"))...)
	var empty []byte
	for range (4*mib - 100) / 3 {
		empty = append(empty, 0x8a, 0x01, 0) // field 17, an empty message
	}
	return append(messages,
		message{door: "binary", http1: true, path: search, media: "application/proto", body: bytes.NewReader(empty)},
		message{door: "gRPC binary", path: search, media: "application/grpc", body: envelope(0, empty), trailer: true})
}

// P11: what a hostile caller sends costs little, and nobody else notices.
func TestHostileInput(t *testing.T) {
	s := besiege(t)
	nested := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	long := strings.Repeat("a", mib)
	for _, a := range []attack{
		{"bomb, 1 MiB that is 1 GiB", each(bombs(1024), "429", "grpc-status 8", "415")},
		{"bomb, 4 MiB that are 3.8 GiB", each(bombs(3900), "429", "grpc-status 8", "415")},
		{"endless body", each(endlessBodies, "413", "429", "grpc-status 8", "cut off")},
		{"100,000 arrays in one another", each(func() []message { return onDoors("/"+confirmMethod, confirmREST, `{"x":`+nested+"}") }, "400", "grpc-status 3")},
		{"id of 1 MiB", each(func() []message {
			return onDoors("/"+confirmMethod, "/api/v1/apps/"+long+"/connectors/c/confirm_sync_valid/s", `{"appId":"`+long+`","connectorId":"c","syncLifecycleId":"s"}`)
		}, "400", "grpc-status 3", "431", "cut off")},
		{"millions of small things", each(crowds, "400", "grpc-status 3", "200", "grpc-status 0", "429", "grpc-status 8")},
		{"one header of 1 MiB", headerFlood(1, mib)},
		{"100,000 headers", headerFlood(100_000, 10)},
		{"header of 65 KiB", headerFlood(1, 80<<10)},
		{"CONTINUATION flood", continuationFlood},
		{"50,000 empty DATA frames", frameFlood(func(h *rawH2, stream uint32) { h.framer.WriteData(stream, false, nil) })},
		{"50,000 SETTINGS", frameFlood(func(h *rawH2, _ uint32) { h.framer.WriteSettings() })},
		{"50,000 PINGs", frameFlood(func(h *rawH2, _ uint32) { h.framer.WritePing(false, [8]byte{}) })},
		{"50,000 PINGs, answers unread", deafPings},
		{"50,000 WINDOW_UPDATEs", frameFlood(func(h *rawH2, _ uint32) { h.framer.WriteWindowUpdate(0, 1) })},
		{"50,000 PRIORITYs", frameFlood(func(h *rawH2, stream uint32) {
			h.framer.WritePriority(stream+2, http2.PriorityParam{StreamDep: stream, Weight: 1})
		})},
		{"100 readers with a window of 0", windowZero},
	} {
		s.suffer(a, mostTime)
	}
	s.checkRecovered()
}

// checkRecovered sees that calls work on every door after all that.
func (s *siege) checkRecovered() {
	for i, m := range onDoors("/"+confirmMethod, "", "{}") {
		want := "200"
		if m.door != "REST" {
			m.body = strings.NewReader(s.confirmJSON(fmt.Sprintf("%safterwards-%d", sandbox.ConfirmablePrefix, i)))
		} else {
			m.path = fmt.Sprintf("/api/v1/apps/%s/connectors/%s/confirm_sync_valid/%safterwards", s.facts.AppID, s.facts.ConnectorID, sandbox.ConfirmablePrefix)
		}
		if m.trailer {
			data, _ := io.ReadAll(m.body)
			m.body, want = envelope(0, data), "grpc-status 0"
		}
		if code := s.send(m); code != want {
			s.t.Errorf("afterwards %s answers %s", m.door, code)
		}
	}
}

// headerFlood sends headers on HTTP/1.1 and expects 431 or the end.
func headerFlood(count, size int) func(*siege) (string, error) {
	return func(s *siege) (string, error) {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.url, "http://"), 5*time.Second)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(mostTime))
		go func() {
			fmt.Fprintf(conn, "POST /%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n", confirmMethod, s.key)
			for i := range count {
				if _, err := fmt.Fprintf(conn, "X-%d: %s\r\n", i, strings.Repeat("a", size)); err != nil {
					return
				}
			}
			fmt.Fprintf(conn, "\r\n")
		}()
		answer, err := io.ReadAll(conn)
		line, _, _ := strings.Cut(string(answer), "\r\n")
		switch {
		case strings.HasPrefix(line, "HTTP/1.1 431"):
			return line + ", closed", nil
		case line == "" && !isTimeout(err):
			return "closed", nil
		}
		return line, fmt.Errorf("the header was taken: %q, %v", line, err)
	}
}

func isTimeout(err error) bool {
	var failed net.Error
	return errors.As(err, &failed) && failed.Timeout()
}

// continuationFlood sends a header that does not end, in HTTP/2: CVE-2023-45288.
func continuationFlood(s *siege) (string, error) {
	h := dialH2(s.t, s.url, false)
	h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h.fields(":method", "POST", ":scheme", "http", ":path", "/"+confirmMethod, ":authority", "x")})
	sent := 0
	h.conn.SetWriteDeadline(time.Now().Add(mostTime))
	for ; sent < 64*mib; sent += 16 << 10 {
		if h.framer.WriteContinuation(1, false, h.fields("x-filler", strings.Repeat("~", 20<<10))) != nil || h.out.Flush() != nil {
			break
		}
	}
	gone := h.gone(mostTime)
	text := fmt.Sprintf("%s after %d KiB", h.verdict(), sent>>10)
	if !gone || sent >= 64*mib {
		return text, errors.New("the connection stayed")
	}
	return text, nil
}

// frameFlood opens a call and sends 50,000 frames. Going on and closing are
// both right.
func frameFlood(one func(h *rawH2, stream uint32)) func(*siege) (string, error) {
	return func(s *siege) (string, error) {
		h := dialH2(s.t, s.url, false)
		defer h.conn.Close()
		h.conn.SetWriteDeadline(time.Now().Add(mostTime))
		stream := h.open("/"+confirmMethod, s.key, "application/json")
		sent := 0
		for ; sent < 50_000; sent++ {
			if one(h, stream); sent%1000 == 0 && h.out.Flush() != nil {
				break
			}
		}
		h.framer.WriteData(stream, true, []byte("{}"))
		h.out.Flush()
		for deadline := time.Now().Add(mostTime); h.answered() == 0 && !h.gone(10*time.Millisecond); {
			if time.Now().After(deadline) {
				return h.verdict(), errors.New("no answer, and no end")
			}
		}
		return fmt.Sprintf("%d frames, answered %s, %s", sent, h.field(stream, ":status"), h.verdict()), nil
	}
}

// deafPings sends PINGs, and reads no answer to them: the server closes once
// 10,000 answers wait that the kernel does not take, or has not got so far.
func deafPings(s *siege) (string, error) {
	h := dialH2(s.t, s.url, true)
	defer h.conn.Close()
	h.conn.SetWriteDeadline(time.Now().Add(mostTime))
	for sent := range 50_000 {
		if h.framer.WritePing(false, [8]byte{}) != nil {
			return fmt.Sprintf("closed after %d", sent), nil
		}
	}
	h.out.Flush()
	time.Sleep(time.Second) // the server works on what the kernel has taken, and tells nobody
	return "all sent", nil
}

// windowZero has 100 calls answered whose caller takes not a byte of it.
func windowZero(s *siege) (string, error) {
	h := dialH2(s.t, s.url, false, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	defer h.conn.Close()
	before := s.process.gauge("c1proxy_audit_records_total")
	for range 100 {
		stream := h.open("/c1.api.app.v1.ConnectorService/List", s.key, "application/json")
		h.framer.WriteData(stream, true, []byte(`{"appId":"`+s.facts.AppID+`"}`))
	}
	h.out.Flush()
	until(s.t, "all are on record", func() bool { return s.process.gauge("c1proxy_audit_records_total") >= before+200 })
	return fmt.Sprintf("all on record, %d answers taken, %s", h.answered(), h.verdict()), nil
}

// The part of P11 that takes its time. All of it runs at once.
func TestSlowInput(t *testing.T) {
	t.Parallel()
	s := besiege(t)
	others, late := s.stand(), oversleeps(t)
	memory, cpu := s.process.status("VmRSS"), s.process.cpu()
	var all sync.WaitGroup
	drip := func(name string, longest time.Duration, hello string) {
		for i := range 5 {
			all.Go(func() {
				begun := time.Now()
				answer, err := s.drip(hello, func() time.Duration { return longest + late.grace() })
				took := time.Since(begun).Round(time.Millisecond)
				if err != nil {
					t.Errorf("%s: %v after %v", name, err, took)
				}
				if i == 0 {
					t.Logf("%-40s closed after %v: %.30q", name, took, answer)
				}
			})
		}
	}
	head := func(path string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n", path, s.key)
	}
	drip("slow header", 5*time.Second, "POST / HTTP/1.1\r\nX: ")
	drip("slow body, Connect", mostTime, head("/"+confirmMethod)+"Content-Length: 100\r\n\r\n")
	drip("slow chunks, Connect", mostTime, head("/"+confirmMethod)+"Transfer-Encoding: chunked\r\n\r\n64\r\n")
	drip("slow body, REST", mostTime, head(confirmREST)+"Content-Length: 4000000\r\n\r\n")
	drip("slow body of a stranger", mostTime, "POST /"+confirmMethod+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n")
	drip("nothing at all", 5*time.Second, "")
	for _, media := range []string{"application/grpc", "application/json"} {
		all.Go(func() {
			begun := time.Now()
			code, err := s.dripH2(media, late)
			t.Logf("%-40s answered %s after %v", "slow body, h2c, "+media, code, time.Since(begun).Round(time.Millisecond))
			if err != nil {
				t.Errorf("%s: %v", media, err)
			}
		})
	}
	all.Wait()
	others.stop()
	grown, used := s.process.status("VmRSS")-memory, s.process.cpu()-cpu
	t.Logf("%-40s %d ms of CPU, %+d MiB; %s", "32 slow callers", used.Milliseconds(), grown/mib, others)
	if grown > mostMemory || used > 2*mostCPU || others.failed.Load() > 0 {
		t.Error("slow callers: over their bounds")
	}
}

// drip says hello and then a byte now and then, until the server closes. Within is
// how long that may take, as far as is known yet.
func (s *siege) drip(hello string, within func() time.Duration) (string, error) {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.url, "http://"), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	begun := time.Now()
	io.WriteString(conn, hello)
	stop := make(chan struct{})
	defer close(stop)
	if hello != "" {
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(200 * time.Millisecond):
					io.WriteString(conn, "1")
				}
			}
		}()
	}
	var answer bytes.Buffer
	for {
		conn.SetReadDeadline(begun.Add(within()))
		if _, err := io.Copy(&answer, conn); !isTimeout(err) {
			return answer.String(), nil
		}
		if time.Since(begun) > within() {
			return answer.String(), errors.New("it was not closed")
		}
	}
}

// dripH2 is drip, on a stream.
func (s *siege) dripH2(media string, late *lateness) (string, error) {
	h := dialH2(s.t, s.url, false)
	defer h.conn.Close()
	stream := h.open("/"+confirmMethod, s.key, media)
	h.framer.WriteData(stream, false, []byte{0, 0, 0, 0, 200}) // gRPC's envelope, of 200 bytes
	for begun := time.Now(); h.answered() == 0; time.Sleep(200 * time.Millisecond) {
		if time.Since(begun) > mostTime+late.grace() {
			return "", errors.New("the stream stayed")
		}
		h.framer.WriteData(stream, false, []byte{0})
		h.out.Flush()
	}
	return strings.TrimSpace(h.field(stream, ":status") + " " + h.field(stream, "grpc-status")), nil
}
