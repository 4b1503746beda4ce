package c1proxy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

const (
	sampleFile    = "deploy/c1proxy.yaml"
	unitFile      = "deploy/c1proxy.service"
	containerFile = "deploy/Containerfile"
)

// staticBinary builds the program as a release does, but without the commit.
var staticBinary = sync.OnceValues(func() (string, error) {
	name := filepath.Join(binaryDir, "proxy-static")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", name, "./cmd/proxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return name, nil
})

// An image is what the last stage of the Containerfile makes: its instructions
// by name, in order.
type image map[string][]string

// readImage reads the last stage.
func readImage(t *testing.T) image {
	t.Helper()
	data, err := os.ReadFile(containerFile)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(string(data), "")
	made := image{}
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "FROM" {
			made = image{}
		}
		made[name] = append(made[name], strings.TrimSpace(rest))
	}
	return made
}

// command is the exec form of an instruction.
func (i image) command(t *testing.T, name string) (words []string) {
	t.Helper()
	for _, value := range i[name] {
		if at := strings.Index(value, "["); at >= 0 && json.Unmarshal([]byte(value[at:]), &words) == nil {
			return words
		}
	}
	t.Fatalf("%s: no %s in exec form, and the image has no shell", containerFile, name)
	return nil
}

// What the image promises of itself: nothing of another image below it, a user
// by number that is not root, one folder to write to, and the stop signal.
func TestContainerfile(t *testing.T) {
	made := readImage(t)
	for name, want := range map[string]string{
		"FROM": "scratch", "USER": "65532:65532", "VOLUME": "/var/lib/c1proxy", "STOPSIGNAL": "SIGTERM", "EXPOSE": "8080 9090"} {
		if got := strings.Join(made[name], "; "); got != want {
			t.Errorf("%s %s, want %s", name, got, want)
		}
	}
	if len(made["RUN"]) > 0 {
		t.Errorf("the last stage runs %q: there is nothing to run it with", made["RUN"])
	}
}

// cell is how TestContainer asks this test binary, which TestMain hands the
// task, to become the program in its container. It is JSON.
type cell struct {
	Root, Volume string // folders of the host: the image, and what stands at Mount in it
	Mount        string
	UID, GID     int
	Argv         []string
}

const cellVariable = "C1PROXY_TEST_CELL"

// enter does as a container engine would with --read-only --cap-drop=all
// --security-opt=no-new-privileges, and becomes the program. It returns only
// if that fails.
func (c cell) enter() error {
	runtime.LockOSThread() // all of this is of one thread, and exec makes that the process
	for _, step := range []struct {
		what string
		take func() error
	}{
		{"unshare", func() error { return unix.Unshare(unix.CLONE_NEWNS) }},
		{"make mounts private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount image", func() error { return unix.Mount(c.Root, c.Root, "", unix.MS_BIND, "") }},
		{"mount volume", func() error { return unix.Mount(c.Volume, filepath.Join(c.Root, c.Mount), "", unix.MS_BIND, "") }},
		{"protect image", func() error {
			return unix.Mount("", c.Root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
		}},
		{"enter image", func() error { return errors.Join(unix.Chroot(c.Root), unix.Chdir("/")) }},
		{"drop capabilities", dropCapabilities},
		{"drop groups", func() error { return raw(unix.SYS_SETGROUPS, 0, 0, 0) }},
		{"change group", func() error { return raw(unix.SYS_SETRESGID, c.GID, c.GID, c.GID) }},
		{"change user", func() error { return raw(unix.SYS_SETRESUID, c.UID, c.UID, c.UID) }},
	} {
		if err := step.take(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return syscall.Exec(c.Argv[0], c.Argv, []string{"PATH=/"})
}

// dropCapabilities takes away what this thread, and whatever it becomes, could
// ever get. What it still has goes with its user.
func dropCapabilities() error {
	for capability := range uintptr(unix.CAP_LAST_CAP + 1) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil && err != unix.EINVAL { // an older kernel knows fewer
			return err
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// raw calls the kernel for this thread alone.
func raw(call uintptr, a, b, c int) error {
	if _, _, errno := unix.RawSyscall(call, uintptr(a), uintptr(b), uintptr(c)); errno != 0 {
		return errno
	}
	return nil
}

// runCell is TestMain's part.
func runCell(spec string) error {
	var c cell
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	return c.enter()
}

// A box is the image laid out in a folder, with a configuration made from the
// sample for an emulated C1.
type box struct {
	image image
	cell  cell
	g     *gateway
}

// newBox lays out what the Containerfile copies.
func newBox(t *testing.T) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a container")
	}
	if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
		t.Skipf("this root may not mount: %v", err)
	}
	static, err := staticBinary()
	if err != nil {
		t.Fatal(err)
	}
	b := &box{image: readImage(t), g: &gateway{t: t, keys: map[string]string{"sync-bot": authn.NewKey()}}}
	if b.g.c1, err = sandbox.Start("127.0.0.1:0", sandbox.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.g.c1.Close() })
	b.g.facts = b.g.c1.Facts()
	dir := t.TempDir()
	b.cell = cell{Root: filepath.Join(dir, "image"), Volume: filepath.Join(dir, "volume"), Mount: b.image["VOLUME"][0]}
	b.g.dir = filepath.Join(b.cell.Volume, "audit")
	if _, err := fmt.Sscanf(b.image["USER"][0], "%d:%d", &b.cell.UID, &b.cell.GID); err != nil {
		t.Fatalf("USER %s: %v", b.image["USER"][0], err)
	}
	for _, folder := range []string{b.cell.Volume, filepath.Join(b.cell.Root, b.cell.Mount)} {
		if err := errors.Join(os.MkdirAll(folder, 0o755), os.Chmod(folder, 0o700), os.Chown(folder, b.cell.UID, b.cell.GID)); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(static)
	if err != nil {
		t.Fatal(err)
	}
	b.put(t, "/proxy", program, 0o755)
	return b
}

// put writes a file of the image. One that others may not read is handed to
// the image's user.
func (b *box) put(t *testing.T, name string, data []byte, mode os.FileMode) {
	t.Helper()
	file := filepath.Join(b.cell.Root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, mode)); err != nil {
		t.Fatal(err)
	}
	if mode&0o007 == 0 {
		if err := os.Chown(file, b.cell.UID, b.cell.GID); err != nil {
			t.Fatal(err)
		}
	}
}

// configure puts the sample where the image's command looks for it, with what
// an operator must change in it, and an audit in the given folder.
func (b *box) configure(t *testing.T, state string) {
	t.Helper()
	data, err := os.ReadFile(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, change := range [][2]string{
		{`"127.0.0.1:8080"`, `"127.0.0.1:0"`},
		{`"127.0.0.1:9090"`, `"127.0.0.1:0"`},
		{"url: https://acme.conductor.one", "url: " + b.g.facts.URL + "\n    allow_insecure: true"},
		{"clever-fox-42195@acme.conductor.one/spc", b.g.facts.ClientID},
		{"/run/credentials/c1proxy.service/", "/run/secrets/"},
		{strings.Repeat("0", 64), authn.HashKey(b.g.keys["sync-bot"]).String()},
		{"dir: /var/lib/c1proxy/audit,", "dir: " + state + ","},
	} {
		if strings.Count(text, change[0]) < 1 {
			t.Fatalf("%s has no %s", sampleFile, change[0])
		}
		text = strings.ReplaceAll(text, change[0], change[1])
	}
	b.put(t, "/etc/c1proxy/c1proxy.yaml", []byte(text), 0o644)
	b.put(t, "/run/secrets/c1-client-secret", []byte(b.g.facts.ClientSecret), 0o400)
}

// start starts the program in the image, with its own command or another.
func (b *box) start(t *testing.T, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	if args == nil {
		args = b.image.command(t, "CMD")
	}
	b.cell.Argv = slices.Concat(b.image.command(t, "ENTRYPOINT"), args)
	spec, err := json.Marshal(b.cell)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{cellVariable + "=" + string(spec)}
	output, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewReader(output)
}

// P16, I14: the image's program, as the image's user, without any capability
// and on a root that nobody can write to, serves a call and drains on SIGTERM.
func TestContainer(t *testing.T) {
	b := newBox(t)
	b.configure(t, "/var/lib/c1proxy/audit")
	cmd, log := b.start(t)
	var serving struct{ Msg, Address, Admin string }
	for said := ""; serving.Msg != "serving"; {
		line, err := log.ReadString('\n')
		if err != nil {
			t.Fatalf("it ended before it served: %v: %s", err, said+line)
		}
		said += line
		_ = json.Unmarshal([]byte(line), &serving) // a line that is none is said if it fails
	}
	rest := make(chan string, 1)
	go func() { text, _ := io.ReadAll(log); rest <- string(text) }()
	b.g.url = "http://" + serving.Address
	b.checkConfined(t, cmd.Process.Pid)

	health := b.image.command(t, "HEALTHCHECK")[1:]
	ask := func() error {
		asked, said := b.start(t, append(health, "http://"+serving.Admin)...)
		text, _ := io.ReadAll(said)
		if err := asked.Wait(); err != nil {
			return fmt.Errorf("%w\n%s", err, text)
		}
		return nil
	}
	if err := ask(); err != nil {
		t.Errorf("healthcheck of a ready proxy: %v", err)
	}

	release := make(chan struct{})
	b.g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
	answer := make(chan error, 1)
	go func() {
		_, err := b.g.client(protocols[2], "sync-bot").ConfirmSyncValid(t.Context(), b.g.confirmation(b.g.facts.SyncLifecycleID))
		answer <- err
	}()
	if err := b.g.c1.AwaitHits(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, "it takes no more calls", func() bool {
		response, err := http.Get(b.g.url + "/")
		if err == nil {
			response.Body.Close()
		}
		return err != nil
	})
	if err := ask(); err == nil {
		t.Error("healthcheck of a proxy that stops: it is ready")
	}
	close(release)
	if err := <-answer; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit after SIGTERM: %v\n%s", err, <-rest)
	}
	b.checkVolume(t)
}

// checkConfined holds a process against what the image promises.
func (b *box) checkConfined(t *testing.T, pid int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	none := "0000000000000000"
	user := strconv.Itoa(b.cell.UID)
	for field, want := range map[string]string{"Uid": strings.Join([]string{user, user, user, user}, "\t"), "Groups": "", "NoNewPrivs": "1",
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none} {
		got := regexp.MustCompile(`(?m)^` + field + `:\t(.*?)\s*$`).FindSubmatch(status)
		if got == nil || string(got[1]) != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	if b.cell.UID == 0 {
		t.Error("it runs as root")
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if mount, options := fields[4], strings.Split(fields[5], ","); mount != b.cell.Mount && !slices.Contains(options, "ro") {
			t.Errorf("it can write to %s", line)
		}
	}
}

// checkVolume holds the audit that a stopped proxy left.
func (b *box) checkVolume(t *testing.T) {
	t.Helper()
	report, err := audit.Verify(t.Context(), b.g.dir, "")
	if err != nil || report.Records < 2 {
		t.Errorf("verify: %+v, %v; want an intent and an outcome", report, err)
	}
	err = filepath.WalkDir(b.cell.Volume, func(name string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != b.cell.UID || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: owner %d, mode %v", name, owner, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Without its volume the program has nowhere to write, and says so.
func TestReadOnlyRoot(t *testing.T) {
	b := newBox(t)
	b.configure(t, "/var/lib/elsewhere/audit")
	cmd, log := b.start(t)
	text, err := io.ReadAll(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !bytes.Contains(text, []byte("read-only file system")) {
		t.Errorf("an audit on the root: %v\n%s", err, text)
	}
}

// I14: serving as root is said to be unwise.
func TestServeAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be warned of being root")
	}
	g := &gateway{t: t, dir: filepath.Join(t.TempDir(), "audit"), keys: map[string]string{}, facts: sandbox.Facts{ClientID: "a-b-1@127.0.0.1/spc", ClientSecret: "x"}}
	file := filepath.Join(filepath.Dir(g.dir), "c1proxy.yaml")
	if err := os.WriteFile(file, []byte(g.configuration("http://127.0.0.1:1")), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serveBinary(t, file)
	defer p.kill()
	until(t, "the log has the warning", func() bool { return strings.Contains(p.stderr.String(), "this is root") })
}

// unit reads the unit's settings: the values of each, in order.
func unit(t *testing.T) (text string, settings map[string][]string) {
	t.Helper()
	data, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	settings = map[string][]string{}
	for _, found := range regexp.MustCompile(`(?m)^(\w+)=(.*)$`).FindAllStringSubmatch(string(data), -1) {
		settings[found[1]] = append(settings[found[1]], found[2])
	}
	return string(data), settings
}

// The sample is right, and the unit and the image give it what it names.
func TestSampleConfig(t *testing.T) {
	cfg, err := config.Read(sampleFile, proxy.Check)
	if err != nil {
		t.Fatal(err)
	}
	_, settings := unit(t)
	secret := cfg.GetTenants()[0].GetCredential().GetClientSecret().GetFile()
	if want := "/run/credentials/c1proxy.service/" + strings.Split(settings["LoadCredential"][0], ":")[0]; secret != want {
		t.Errorf("the secret is %s; the unit puts it at %s", secret, want)
	}
	if reload := settings["ExecReload"]; len(reload) != 2 || reload[0] != settings["ExecStartPre"][0] || reload[1] != "/bin/kill -HUP $MAINPID" {
		t.Errorf("a reload is %q: it checks what a start checks, and sends SIGHUP", reload)
	}
	state := "/var/lib/" + settings["StateDirectory"][0]
	if volume := readImage(t)["VOLUME"][0]; volume != state {
		t.Errorf("the volume is %s, the unit's folder %s", volume, state)
	}
	for _, path := range []string{cfg.GetAudit().GetDir(), cfg.GetAudit().GetKeyFile()} {
		if filepath.Dir(path) != state {
			t.Errorf("%s is not in %s", path, state)
		}
	}
	var longest time.Duration
	for _, tenant := range cfg.GetTenants() {
		longest = max(longest, tenant.GetTimeout().AsDuration())
	}
	stop, err := time.ParseDuration(settings["TimeoutStopSec"][0])
	if drain := longest + 10*time.Second; err != nil || stop < drain+10*time.Second {
		t.Errorf("systemd kills after %v, %v: a drain may take %v", stop, err, drain)
	}
}

// mostExposed is the most that `systemd-analyze security` may find, in tenths
// of 10: below 2 it says OK.
const mostExposed = 15

// systemd understands the unit, and finds nothing that could be closed.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("no systemd-analyze here")
	}
	static, err := staticBinary()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := unit(t)
	file := filepath.Join(t.TempDir(), filepath.Base(unitFile))
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/usr/local/bin/c1proxy", static)), 0o644); err != nil {
		t.Fatal(err)
	}
	// It prints what it does not understand, and yet exits with 0.
	if out, err := exec.Command("systemd-analyze", "verify", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+strconv.Itoa(mostExposed), file).CombinedOutput()
	if err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
	t.Logf("%s", out[bytes.LastIndex(out, []byte("→")):])
}
