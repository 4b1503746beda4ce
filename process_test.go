package c1proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// binary builds the real program, once for all tests, into a folder that
// TestMain removes.
var binary = sync.OnceValues(func() (string, error) {
	name := filepath.Join(binaryDir, "proxy")
	out, err := exec.Command("go", "build", "-o", name, "./cmd/proxy").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return name, nil
})

// prepare starts a sandbox and writes the configuration of a gateway in front
// of it, which changes may change.
func prepare(t testing.TB, c1 sandbox.Config, changes ...func(string) string) (g *gateway, configFile string) {
	t.Helper()
	g = &gateway{t: t, dir: filepath.Join(t.TempDir(), "audit"), keys: map[string]string{}}
	var err error
	if g.c1, err = sandbox.Start("127.0.0.1:0", c1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.c1.Close() })
	g.facts = g.c1.Facts()
	text := g.configuration(g.c1.URL())
	for _, change := range changes {
		text = change(text)
	}
	configFile = filepath.Join(filepath.Dir(g.dir), "c1proxy.yaml")
	if err := os.WriteFile(configFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return g, configFile
}

// listenWith adds keys to listen.
func listenWith(keys string) func(string) string {
	return func(text string) string {
		return strings.Replace(text, `listen: {address: "127.0.0.1:0"`, `listen: {address: "127.0.0.1:0", `+keys, 1)
	}
}

// A process is a running proxy of which the test knows only what a user does.
type process struct {
	t   testing.TB
	cmd *exec.Cmd
	// stderr is what it has printed since it serves; all of it once printed is
	// closed.
	stderr     *syncBuffer
	printed    chan struct{}
	url, admin string
	vkey       string
}

// serveBinary starts "proxy serve" and waits until it says that it serves.
func serveBinary(t testing.TB, configFile string, env ...string) *process {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(name, "serve", "--config", configFile), stderr: new(syncBuffer), printed: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("proxy serve ended before it served: %v", err)
		}
		var entry struct {
			Msg, Address, Admin string
			VKey                string `json:"audit_key"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "serving" {
			p.url, p.admin, p.vkey = "http://"+entry.Address, "http://"+entry.Admin, entry.VKey
			go func() {
				io.Copy(p.stderr, lines)
				close(p.printed)
			}()
			return p
		}
	}
}

// kill ends the process as a power cut would, as far as it is concerned.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// proc reads a file of the process below /proc.
func (p *process) proc(name string) string {
	p.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}

// status is a figure in bytes of /proc/PID/status: VmRSS, what the process has
// in memory, or VmHWM, the most that it had.
func (p *process) status(key string) int64 {
	p.t.Helper()
	_, rest, _ := strings.Cut(p.proc("status"), key+":")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		p.t.Fatalf("/proc/PID/status has no %s", key)
	}
	kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return kilobytes << 10
}

// forgetPeak makes VmHWM begin anew.
func (p *process) forgetPeak() {
	p.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0); err != nil {
		p.t.Fatal(err)
	}
}

// cpu is the processor time so far, user and system, in steps of 10 ms.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	stat := p.proc("stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return time.Duration(user+system) * time.Second / 100 // USER_HZ is 100 on every Linux that Go knows
}

// files counts the open files, connections included.
func (p *process) files() int {
	p.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(entries)
}

// gauge reads a metric without labels.
func (p *process) gauge(name string) float64 {
	p.t.Helper()
	response, err := http.Get(p.admin + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return value
		}
	}
	p.t.Fatalf("no metric %s", name)
	return 0
}

func (p *process) goroutines() int { return int(p.gauge("go_goroutines")) }

// ready asks /readyz.
func (p *process) ready() int {
	response, err := http.Get(p.admin + "/readyz")
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// A bystander is somebody else's caller, who must be served whatever happens.
type bystander struct {
	calls, failed atomic.Int64
	slowest       atomic.Int64 // nanoseconds
	first         atomic.Pointer[error]
	stop          func()
}

// stand has the reader call, one call after the other, until it is stopped.
func (g *gateway) stand() *bystander {
	b := new(bystander)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	b.stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	g.t.Cleanup(b.stop)
	client := g.client(protocols[2], "reader")
	done.Go(func() {
		for ctx.Err() == nil {
			begun := time.Now()
			_, err := client.List(context.Background(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
			b.calls.Add(1)
			if err != nil {
				b.failed.Add(1)
				b.first.CompareAndSwap(nil, &err)
			}
			b.slowest.Store(max(b.slowest.Load(), int64(time.Since(begun))))
			time.Sleep(20 * time.Millisecond)
		}
	})
	return b
}

func (b *bystander) String() string {
	text := fmt.Sprintf("others: %d calls, %d failed, the slowest took %v", b.calls.Load(), b.failed.Load(), time.Duration(b.slowest.Load()).Round(time.Millisecond))
	if err := b.first.Load(); err != nil {
		text += ": " + (*err).Error()
	}
	return text
}

const mib = 1 << 20
