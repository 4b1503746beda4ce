// Package redistest starts a Redis or Valkey of a test's own.
package redistest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A Server is a Redis that keeps nothing on disk: it is empty after a restart.
type Server struct {
	// Address is the path of its socket, or where it listens.
	Address string

	t    testing.TB
	args []string
	cmd  *exec.Cmd
}

// Start starts a Redis on a socket, with more arguments, and ends it with the
// test. Where none is installed the test is skipped, and fails in CI.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "redis") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	return start(t, path, append([]string{"--port", "0", "--unixsocket", path, "--dir", dir}, args...))
}

// StartTCP is Start on a free port of 127.0.0.1.
func StartTCP(t testing.TB, args ...string) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	_, port, _ := net.SplitHostPort(address)
	return start(t, address, append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir()}, args...))
}

func start(t testing.TB, address string, args []string) *Server {
	t.Helper()
	program := find(t)
	s := &Server{Address: address, t: t, args: append([]string{program, "--save", "", "--appendonly", "no"}, args...)}
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

// find returns the program.
func find(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("neither redis-server nor valkey-server is installed")
	return ""
}

// Kill ends it at once (SIGKILL), if it runs.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// Restart starts it again, empty, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal("start redis: ", err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		if s.Do("PING\r\n") == "+PONG\r\n" {
			return
		}
		if time.Now().After(end) {
			s.t.Fatal("redis does not answer")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Signal stops it (SIGSTOP) or lets it go on (SIGCONT).
func (s *Server) Signal(signal os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Fatal("signal redis: ", err)
	}
}

// Do sends an inline command and returns the first of the answer, "" if there
// is none.
func (s *Server) Do(command string) string {
	network := "tcp"
	if s.Address[0] == '/' {
		network = "unix"
	}
	conn, err := net.Dial(network, s.Address)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte(command)); err != nil {
		return ""
	}
	answer := make([]byte, 4096)
	n, _ := conn.Read(answer)
	return string(answer[:n])
}
