package c1proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/oauth2/clientcredentials"
	"google.golang.org/protobuf/encoding/protojson"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/gen/c1/api/app/v1/appv1connect"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// The benchmark's processes. Processor time is only told apart by process, so
// what is measured runs in a child of its own, and the load outside of it.
const (
	roleVariable     = "C1PROXY_OVERHEAD_ROLE"
	upstreamVariable = "C1PROXY_OVERHEAD_UPSTREAM"
	keyVariable      = "C1PROXY_OVERHEAD_KEY"
	// profileVariable names a folder for a processor profile of each role.
	profileVariable = "C1PROXY_OVERHEAD_PROFILE"
	concurrent      = 64
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := child(role, os.Getenv(upstreamVariable)); err != nil {
			fmt.Fprintln(os.Stderr, "overhead:", role, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if spec := os.Getenv(cellVariable); spec != "" {
		fmt.Fprintln(os.Stderr, "container:", runCell(spec))
		os.Exit(1)
	}
	var err error
	if binaryDir, err = os.MkdirTemp("", "c1proxy-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(binaryDir)
	os.Exit(code)
}

// binaryDir is where the tests build the real program.
var binaryDir string

// BenchmarkOverhead measures what a call costs in the process that handles
// it: a client that calls the upstream directly, a plain connect-go handler
// with an oauth2 client, and c1proxy with everything on.
func BenchmarkOverhead(b *testing.B) {
	upstream := newUpstream()
	defer upstream.Close()
	for _, door := range []struct {
		name    string
		http1   bool
		options []connect.ClientOption
	}{
		{"grpc", false, []connect.ClientOption{connect.WithGRPC()}},
		{"json-h2c", false, []connect.ClientOption{connect.WithProtoJSON()}},
		{"json-http1", true, []connect.ClientOption{connect.WithProtoJSON()}},
	} {
		for _, role := range []string{"direct", "handler", "c1proxy"} {
			b.Run(door.name+"/"+role, func(b *testing.B) {
				key := authn.NewKey()
				subject := startChild(b, role, upstream.URL, key)
				load := subject.direct
				if role != "direct" {
					g := &gateway{t: b, url: subject.url, keys: map[string]string{"bot": key}}
					options := append([]connect.ClientOption{connect.WithInterceptors(bearer(key))}, door.options...)
					load = through(appv1connect.NewConnectorServiceClient(g.httpClient(door.http1), subject.url, options...))
				}
				if err := load(2000); err != nil { // warm
					b.Fatal(err)
				}
				before := subject.usage(b)
				b.ResetTimer()
				if err := load(b.N); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				after := subject.usage(b)
				b.ReportMetric(float64(after.CPU-before.CPU)/1e3/float64(b.N), "cpu-us/op")
				b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "allocs/op")
			})
		}
	}
}

// newUpstream is the least that is C1: a token endpoint, and {} for the rest.
func newUpstream() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/token") {
			io.WriteString(w, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "{}")
	}))
}

// through returns a load of n calls, 64 at a time.
func through(client appv1connect.ConnectorServiceClient) func(int) error {
	return func(n int) error {
		return spread(n, func() error {
			_, err := client.ConfirmSyncValid(context.Background(), connect.NewRequest(&appv1.ConfirmSyncValidRequest{
				AppId: "app", ConnectorId: "connector", SyncLifecycleId: "sync"}))
			return err
		})
	}
}

func spread(n int, call func() error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	for range concurrent {
		group.Go(func() {
			for next.Add(1) <= int64(n) && failed.Load() == nil {
				if err := call(); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// usage is what a process has used so far.
type usage struct {
	CPU     int64 // nanoseconds, user and system
	Mallocs uint64
}

func ownUsage() usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // cannot fail for SELF
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{CPU: r.Utime.Nano() + r.Stime.Nano(), Mallocs: m.Mallocs}
}

// A subject is a child process that is measured.
type subject struct {
	url string
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(b *testing.B, role, upstream, key string) *subject {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, upstreamVariable+"="+upstream, keyVariable+"="+key)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	s := &subject{in: in, out: bufio.NewReader(out)}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	if s.url, err = s.ask(""); err != nil {
		b.Fatal(err)
	}
	return s
}

// ask sends a line, unless it is empty, and returns the line that comes back.
func (s *subject) ask(line string) (string, error) {
	if line != "" {
		if _, err := fmt.Fprintln(s.in, line); err != nil {
			return "", err
		}
	}
	answer, err := s.out.ReadString('\n')
	return strings.TrimSpace(answer), err
}

func (s *subject) usage(b *testing.B) (u usage) {
	line, err := s.ask("usage")
	if err == nil {
		err = json.Unmarshal([]byte(line), &u)
	}
	if err != nil {
		b.Fatal(err)
	}
	return u
}

// direct has the child make n calls by itself.
func (s *subject) direct(n int) error {
	line, err := s.ask(fmt.Sprint("run ", n))
	if err == nil && line != "done" {
		err = errors.New(line)
	}
	return err
}

// child serves in its role, and answers on stdout what is asked on stdin,
// until that ends.
func child(role, upstream string) error {
	url, stop, err := map[string]func(string) (string, func(), error){
		"direct": func(string) (string, func(), error) { return "-", func() {}, nil }, "handler": plainHandler, "c1proxy": fullProxy,
	}[role](upstream)
	if err != nil {
		return err
	}
	defer stop()
	if dir := os.Getenv(profileVariable); dir != "" {
		file, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s.%d.pprof", role, os.Getpid())))
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Println(url)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrent}}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "run %d", &n); err != nil {
			json.NewEncoder(os.Stdout).Encode(ownUsage())
			continue
		}
		if err := spread(n, func() error { return postConfirm(context.Background(), client, upstream, []byte("{}")) }); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("done")
	}
	return nil
}

// postConfirm is a confirmation as anyone would write it.
func postConfirm(ctx context.Context, client *http.Client, upstream string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost,
		upstream+"/api/v1/apps/app/connectors/connector/confirm_sync_valid/sync", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return protojson.Unmarshal(data, new(appv1.ConfirmSyncValidResponse))
}

// plainHandler is what one would write without c1proxy: no authentication, no
// policy, no limits, no audit.
func plainHandler(upstream string) (string, func(), error) {
	credentials := clientcredentials.Config{ClientID: "id", ClientSecret: "secret", TokenURL: upstream + "/auth/v1/token"}
	client := credentials.Client(context.Background())
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 256
	mux := http.NewServeMux()
	mux.Handle(appv1connect.NewConnectorServiceHandler(&plainService{client: client, upstream: upstream}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: protocols}
	go server.Serve(listener)
	return "http://" + listener.Addr().String(), func() { server.Close() }, nil
}

type plainService struct {
	appv1connect.UnimplementedConnectorServiceHandler
	client   *http.Client
	upstream string
}

func (s *plainService) ConfirmSyncValid(ctx context.Context, _ *connect.Request[appv1.ConfirmSyncValidRequest]) (*connect.Response[appv1.ConfirmSyncValidResponse], error) {
	body, err := protojson.Marshal(new(appv1.ConfirmSyncValidResponse))
	if err != nil {
		return nil, err
	}
	if err := postConfirm(ctx, s.client, s.upstream, body); err != nil {
		return nil, err
	}
	return connect.NewResponse(new(appv1.ConfirmSyncValidResponse)), nil
}

// fullProxy is c1proxy with everything on, and limits that are not reached.
func fullProxy(upstream string) (string, func(), error) {
	dir, err := os.MkdirTemp("", "overhead")
	if err != nil {
		return "", nil, err
	}
	text := fmt.Sprintf(`
listen: {address: "127.0.0.1:0"}
tenants:
  - name: acme
    url: %s
    allow_insecure: true
    limit: {rate: 1000000, per: 1s, burst: 1000000}
    credential: {client_id: "a@127.0.0.1/spc", client_secret: {env: %s}}
teams:
  - name: payments
    tenant: acme
    callers: [{name: bot, api_keys: [{sha256: "%s"}]}]
    allow: [{methods: ["%s"]}]
    limits: {team: {rate: 1000000, per: 1s, burst: 1000000}, caller: {rate: 1000000, per: 1s, burst: 1000000}}
audit: {dir: %s, key_file: %s}
admin: {address: "127.0.0.1:0"}
`, upstream, keyVariable, authn.HashKey(os.Getenv(keyVariable)), confirmMethod, filepath.Join(dir, "audit"), filepath.Join(dir, "key"))
	cfg, err := config.Parse("overhead.yaml", []byte(text), proxy.Check)
	if err != nil {
		return "", nil, err
	}
	p, err := proxy.Open(context.Background(), cfg, proxy.Options{Logger: slog.New(slog.DiscardHandler), Version: "test"})
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	return "http://" + p.Addr().String(), func() {
		cancel()
		select {
		case <-served:
		case <-time.After(10 * time.Second):
		}
		os.RemoveAll(dir)
	}, nil
}
