package proxy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// The order is the design: a stage that moves must move here too, with a
// reason beside it in the slice.
func TestStageOrder(t *testing.T) {
	want := []string{"identify", "observe", "record", "recover", "check origin", "limit body", "limit failures", "authenticate", "trace", "authorize", "limit rate", "limit load"}
	if diff := cmp.Diff(want, proxy.StageNames()); diff != "" {
		t.Error(diff)
	}
}

const checked = `
tenants:
  - name: acme
    url: http://127.0.0.1:8080
    allow_insecure: true
    credential: {client_id: "a@127.0.0.1/spc", client_secret: {env: SECRET}}
teams:
  - name: payments
    tenant: acme
    allow:
      - methods: ["c1.api.app.v1.ConnectorService/Get", "c1.api.app.v1.ConnectorService/ConfirmSyncVaild"]
audit: {dir: /tmp/audit}
`

// What only this package can know is found with its place too.
func TestCheck(t *testing.T) {
	_, err := config.Parse("c.yaml", []byte(checked), proxy.Check)
	if err == nil {
		t.Fatal("a configuration with two mistakes passed")
	}
	for _, want := range []string{
		"c.yaml:4:10: ", "is the address that c1proxy itself listens on",
		"c.yaml:11:57: ", `did you mean "c1.api.app.v1.ConnectorService/ConfirmSyncValid"?`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

func TestStatedReason(t *testing.T) {
	tests := map[string]string{
		"plain":                    "plain",
		"gr%C3%BCn%20light":        "grün light",
		"50% off":                  "50% off",
		"%FFbroken":                "broken",
		strings.Repeat("a", 600):   strings.Repeat("a", 512),
		strings.Repeat("%20", 600): strings.Repeat(" ", 512),
	}
	for text, want := range tests {
		if got := proxy.StatedReason(text); got != want {
			t.Errorf("%.20q: got %q, want %q", text, got, want)
		}
	}
}

// A pair of files that changes is read again; one that is bad is not taken.
func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	synctest.Test(t, func(t *testing.T) {
		write := func(serial int64) {
			writePair(t, cert, key, serial)
			for _, name := range []string{cert, key} {
				if err := os.Chtimes(name, time.Now(), time.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		var logs bytes.Buffer
		write(1)
		c, err := proxy.OpenCertificate(cert, key, slog.New(slog.NewTextHandler(&logs, nil)))
		if err != nil {
			t.Fatal(err)
		}
		expect := func(want string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			if got, err := c.Serial(); err != nil || got != want {
				t.Errorf("got serial %s, %v; want %s", got, err, want)
			}
		}
		expect("1")
		time.Sleep(time.Second)
		write(2)
		expect("2")
		if err := os.WriteFile(cert, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		expect("2")
		if !strings.Contains(logs.String(), "the old one stays") {
			t.Errorf("a bad certificate was not logged: %s", logs.String())
		}
	})
	if _, err := proxy.OpenCertificate(filepath.Join(dir, "none"), key, slog.Default()); err == nil {
		t.Error("a missing certificate passed")
	}
}

func writePair(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
