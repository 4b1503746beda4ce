package c1proxy_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/gen/c1/api/app/v1/appv1connect"
	"github.com/c1proxy/c1proxy/internal/audit"
)

// An issuerServer is an OIDC issuer over TLS.
type issuerServer struct {
	t      testing.TB
	server *httptest.Server
	mu     sync.Mutex
	keys   map[string]*ecdsa.PrivateKey
	down   bool
	hits   int // of the keys
	others []string
	tokens string // its token endpoint
	listen string // further keys of listen in the gateway that is started with it
}

func startIssuer(t testing.TB) *issuerServer {
	s := &issuerServer{t: t, keys: map[string]*ecdsa.PrivateKey{"first": newKey(t)}}
	s.server = httptest.NewTLSServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// ServeHTTP serves the discovery document and the keys, and notes all else.
func (s *issuerServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var body any
	switch {
	case r.URL.Path == "/.well-known/openid-configuration":
		body = map[string]any{"issuer": s.server.URL, "jwks_uri": s.server.URL + "/keys", "token_endpoint": s.tokens}
	case r.URL.Path == "/keys":
		s.hits++
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
		for id, key := range s.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: id, Use: "sig"})
		}
		body = set
	default:
		s.others = append(s.others, r.URL.Path)
	}
	if s.down || body == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	_ = json.NewEncoder(w).Encode(body)
}

// with changes the issuer.
func (s *issuerServer) with(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// token signs a token with one of the issuer's keys, or with another.
func (s *issuerServer) token(kid string, key crypto.PrivateKey, change map[string]any) string {
	s.t.Helper()
	if key == nil {
		s.with(func() { key = s.keys[kid] })
	}
	now := time.Now()
	claims := map[string]any{"iss": s.server.URL, "aud": "c1proxy", "sub": "sync-bot", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(claims, change)
	payload, err := json.Marshal(claims)
	if err != nil {
		s.t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
	if err != nil {
		s.t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// An authority signs certificates.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB, name string) *authority {
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, key, cert}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// issue signs a certificate for the names; one with "://" is a URI.
func (a *authority) issue(change func(*x509.Certificate), names ...string) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "sync-bot"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, name := range names {
		if strings.Contains(name, "://") {
			uri, err := url.Parse(name)
			if err != nil {
				a.t.Fatal(err)
			}
			template.URIs = append(template.URIs, uri)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// pair writes the certificate and the key of a server at the loopback address.
func (a *authority) pair(dir string) (certFile, keyFile string) {
	a.t.Helper()
	pair := a.issue(func(c *x509.Certificate) {
		c.IPAddresses, c.ExtKeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	a.write(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	a.write(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return certFile, keyFile
}

func (a *authority) write(file string, data []byte) {
	a.t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// A shared gateway is one whose callers have every proof.
type sharedGateway struct {
	*gateway
	*edge
}

// An edge is what proves callers by tokens and certificates: an issuer, and an
// authority whose word counts. The gateway's own certificate is of it too.
type edge struct {
	issuer             *issuerServer
	clients            *authority
	clientCA, issuerCA string // files
	certFile, keyFile  string
}

func newEdge(t testing.TB) *edge {
	dir := t.TempDir()
	e := &edge{issuer: startIssuer(t), clients: newAuthority(t, "clients"), clientCA: filepath.Join(dir, "clients.pem"), issuerCA: filepath.Join(dir, "issuer.pem")}
	e.clients.write(e.clientCA, e.clients.pem())
	e.clients.write(e.issuerCA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.issuer.server.Certificate().Raw}))
	e.certFile, e.keyFile = e.clients.pair(dir)
	return e
}

// configure adds TLS and the issuer to a configuration.
func (e *edge) configure(text string) string {
	return strings.Replace(text, `listen: {address: "127.0.0.1:0"}`, fmt.Sprintf("listen: {address: \"127.0.0.1:0\", tls: {cert_file: %q, key_file: %q, client_ca_file: %q}%s}\n"+
		"issuers: [{name: login, url: %q, audiences: [c1proxy], ca_file: %q}]", e.certFile, e.keyFile, e.clientCA, e.issuer.listen, e.issuer.server.URL, e.issuerCA), 1)
}

// await waits until the gateway has the issuer's keys, unless it is down.
func (e *edge) await(g *gateway) {
	until(g.t, "the issuer's keys are had", func() bool {
		_, body := g.admin("/readyz")
		return e.issuer.down || strings.Contains(body, `"issuer/login": "ok"`)
	})
}

const (
	syncURI   = "spiffe://example.com/payments/sync-bot"
	readerURI = "spiffe://example.com/readers/laptop"
)

// startShared starts a gateway over TLS whose sync-bot and reader are known by a
// key, a token and a certificate each. Two more are in two teams each.
func startShared(t testing.TB, arrange ...func(*issuerServer)) *sharedGateway {
	t.Helper()
	s := &sharedGateway{edge: newEdge(t)}
	for _, a := range arrange {
		a(s.issuer)
	}
	s.gateway = start(t, func(set *setup) {
		set.yaml = func(text string) string {
			both := "      - name: both\n        oidc: {issuer: login, condition: 'claims.sub == \"both\"'}\n        mtls: {uri_san: \"spiffe://example.com/both/*\"}\n"
			text = strings.Replace(s.configure(text), "      - name: sync-bot\n", both+"      - name: sync-bot\n        oidc: {issuer: login, subject: sync-bot}\n        mtls: {uri_san: "+syncURI+"}\n", 1)
			return strings.Replace(text, "      - name: reader\n", both+"      - name: named\n        mtls: {dns_san: named.example.com}\n"+
				"      - name: reader\n        oidc: {issuer: login, condition: 'claims.role == \"reader\"'}\n        mtls: {uri_san: \"spiffe://example.com/readers/*\"}\n", 1)
		}
	})
	s.insecure = &tls.Config{InsecureSkipVerify: true} // the server's certificate is made for this test
	s.await(s.gateway)
	return s
}

// A proof is what a caller shows.
type proof struct {
	name        string
	bearer      []string // each an Authorization header
	certificate *tls.Certificate
	team        string
	header      http.Header // more
}

// proving returns a client that shows a proof.
func (s *sharedGateway) proving(p protocol, proof proof) appv1connect.ConnectorServiceClient {
	config := s.insecure.Clone()
	if proof.certificate != nil {
		config.Certificates = []tls.Certificate{*proof.certificate}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	s.t.Cleanup(transport.CloseIdleConnections)
	shown := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			maps.Copy(r.Header(), proof.header)
			for _, bearer := range proof.bearer {
				r.Header().Add("Authorization", "Bearer "+bearer)
			}
			if proof.team != "" {
				r.Header().Set("C1proxy-Team", proof.team)
			}
			return next(ctx, r)
		}
	})
	var client connect.HTTPClient = &http.Client{Transport: transport}
	if p.door == "rest" {
		client = pathsClient{client}
	}
	return appv1connect.NewConnectorServiceClient(client, s.url, append([]connect.ClientOption{connect.WithInterceptors(shown)}, p.options...)...)
}

// try makes a call, or one that changes something, and returns its error and its
// last record.
func (s *sharedGateway) try(p protocol, proof proof, write bool) (audit.Record, error) {
	s.t.Helper()
	for i, bearer := range proof.bearer {
		s.keys[fmt.Sprintf("proof %d of %s", i, proof.name)] = bearer // which checkSecrets looks for
	}
	client := s.proving(p, proof)
	var id string
	var err error
	if write {
		var response *connect.Response[appv1.ConfirmSyncValidResponse]
		response, err = client.ConfirmSyncValid(s.t.Context(), s.confirmation(confirmable(s.gateway)))
		id = requestID(response, err)
	} else {
		var response *connect.Response[appv1.ConnectorServiceListResponse]
		response, err = client.List(s.t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: s.facts.AppID}))
		id = requestID(response, err)
	}
	if id == "" {
		return audit.Record{}, err
	}
	records := s.records(id)
	if len(records) == 0 {
		s.t.Errorf("%s, %s: no record", p.name, proof.name)
		return audit.Record{}, err
	}
	return records[len(records)-1], err
}

func pointer(c tls.Certificate) *tls.Certificate { return &c }

// On every door every proof of a caller has the same decision and the same
// record.
func TestIdentityOnEveryDoor(t *testing.T) {
	s := startShared(t)
	callers := map[string][]proof{
		"payments/sync-bot": {
			{name: "key", bearer: []string{s.keys["sync-bot"]}},
			{name: "token", bearer: []string{s.issuer.token("first", nil, nil)}},
			{name: "certificate", certificate: pointer(s.clients.issue(nil, syncURI))},
		},
		"readers/reader": {
			{name: "key", bearer: []string{s.keys["reader"]}},
			{name: "token", bearer: []string{s.issuer.token("first", nil, map[string]any{"sub": "someone", "role": "reader"})}},
			{name: "certificate", certificate: pointer(s.clients.issue(nil, readerURI))},
		},
	}
	named := map[string]string{"key": "key:", "token": "oidc:login:first", "certificate": "cert:"}
	for caller, proofs := range callers {
		for _, write := range []bool{false, true} {
			for _, p := range protocols {
				for _, proof := range proofs {
					for team, denied := range map[string]bool{"": false, strings.Split(caller, "/")[0]: false, "slow": true} {
						want := ""
						if denied {
							want = "TEAM_DENIED"
						} else if write && caller == "readers/reader" {
							want = "METHOD_DENIED"
						}
						proof.team = team
						record, err := s.try(p, proof, write)
						if got := reasonOf(err); got != want || (err != nil) != (want != "") || record.Error != want {
							t.Errorf("%s by %s, write %v, for %q, on %s: %v, record %+v", caller, proof.name, write, team, p.name, err, record)
						}
						if got := record.Team + "/" + record.Caller; got != caller && !denied || got != "/" && denied {
							t.Errorf("%s by %s, for %q, on %s: on record as %s", caller, proof.name, team, p.name, got)
						}
						if !strings.HasPrefix(record.Credential, named[proof.name]) || record.Door != p.door || (record.Detail["subject"] == "") != (proof.name == "key") {
							t.Errorf("%s by %s on %s: %+v", caller, proof.name, p.name, record)
						}
					}
				}
			}
		}
	}
}

// What proves nothing is refused alike on every door, and nothing reaches C1.
func TestRefusedProofs(t *testing.T) {
	s := startShared(t)
	good, key := s.issuer.token("first", nil, nil), s.keys["sync-bot"]
	certificate := pointer(s.clients.issue(nil, syncURI))
	spoof := http.Header{"X-Client-Cert": {"x"}, "X-Forwarded-Client-Cert": {"URI=" + syncURI}, "Ssl-Client-Verify": {"SUCCESS"}, "X-Forwarded-User": {"sync-bot"}}
	for _, test := range []struct {
		proof proof
		want  string
		check string
	}{
		{proof{name: "none"}, "UNAUTHENTICATED", "none"},
		{proof{name: "headers of others", header: spoof}, "UNAUTHENTICATED", "none"},
		{proof{name: "another's key", bearer: []string{s.issuer.token("first", newKey(t), nil)}}, "UNAUTHENTICATED", "signature"},
		{proof{name: "expired", bearer: []string{s.issuer.token("first", nil, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})}}, "UNAUTHENTICATED", "exp"},
		{proof{name: "for another", bearer: []string{s.issuer.token("first", nil, map[string]any{"aud": "other"})}}, "UNAUTHENTICATED", "aud"},
		{proof{name: "huge", bearer: []string{strings.Repeat("x", 9000)}}, "UNAUTHENTICATED", "length"},
		{proof{name: "unknown subject", bearer: []string{s.issuer.token("first", nil, map[string]any{"sub": "stranger"})}}, "CALLER_UNKNOWN", ""},
		{proof{name: "two headers", bearer: []string{good, key}}, "AMBIGUOUS_CREDENTIALS", "headers"},
		{proof{name: "wrong header, good certificate", bearer: []string{good + "x"}, certificate: certificate}, "UNAUTHENTICATED", "signature"},
		{proof{name: "CN alone", certificate: pointer(s.clients.issue(nil))}, "CALLER_UNKNOWN", ""},
		{proof{name: "two URIs", certificate: pointer(s.clients.issue(nil, syncURI, "spiffe://example.com/x"))}, "CALLER_UNKNOWN", ""},
		{proof{name: "URI below", certificate: pointer(s.clients.issue(nil, syncURI+"/x"))}, "CALLER_UNKNOWN", ""},
		{proof{name: "URI above", certificate: pointer(s.clients.issue(nil, "spiffe://example.com/readers"))}, "CALLER_UNKNOWN", ""},
		{proof{name: "URI beside", certificate: pointer(s.clients.issue(nil, "spiffe://example.com/readers-too/laptop"))}, "CALLER_UNKNOWN", ""},
		{proof{name: "dots", certificate: pointer(s.clients.issue(nil, "spiffe://example.com/readers/../payments"))}, "CALLER_UNKNOWN", ""},
		{proof{name: "escaped", certificate: pointer(s.clients.issue(nil, "spiffe://example.com/readers/%2e%2e"))}, "CALLER_UNKNOWN", ""},
		{proof{name: "a query", certificate: pointer(s.clients.issue(nil, readerURI+"?x"))}, "CALLER_UNKNOWN", ""},
		{proof{name: "a wildcard", certificate: pointer(s.clients.issue(nil, "*.example.com"))}, "CALLER_UNKNOWN", ""},
		{proof{name: "in two teams", certificate: pointer(s.clients.issue(nil, "spiffe://example.com/both/x"))}, "TEAM_REQUIRED", ""},
		{proof{name: "in two other teams", certificate: pointer(s.clients.issue(nil, "spiffe://example.com/both/x")), team: "slow"}, "TEAM_DENIED", ""},
	} {
		for _, p := range protocols {
			record, err := s.try(p, test.proof, false)
			if reasonOf(err) != test.want || record.Error != test.want || record.Outcome != audit.OutcomeNotSent || record.Detail["check"] != test.check || record.Caller != "" {
				t.Errorf("%s on %s: %v, record %+v", test.proof.name, p.name, err, record)
			}
			if got := detail[*errdetails.ErrorInfo](err).GetMetadata(); test.want == "TEAM_REQUIRED" && got["teams"] != "payments, readers" {
				t.Errorf("%s on %s: %v", test.proof.name, p.name, got)
			}
		}
	}
	if hits := len(s.c1.Requests()); hits != 0 {
		t.Errorf("%d requests reached C1", hits)
	}
	if len(s.issuer.others) != 0 {
		t.Errorf("fetched: %v", s.issuer.others)
	}
	// And those that prove it, once more, so that the table above means something.
	for _, proof := range []proof{
		{name: "header and another's certificate", bearer: []string{good}, certificate: pointer(s.clients.issue(nil, readerURI))},
		{name: "by DNS name", certificate: pointer(s.clients.issue(nil, "other.example.com", "Named.example.com"))},
		{name: "in two teams, one chosen", certificate: pointer(s.clients.issue(nil, "spiffe://example.com/both/x")), team: "readers"},
		{name: "in two teams by token", bearer: []string{s.issuer.token("first", nil, map[string]any{"sub": "both"})}, team: "payments"},
	} {
		if record, err := s.try(protocols[1], proof, false); err != nil || record.Caller == "" {
			t.Errorf("%s: %v", proof.name, err)
		}
	}
}

// A certificate that is not good is refused in the handshake, or as long as no
// call could be answered.
func TestBadCertificates(t *testing.T) {
	s := startShared(t)
	for name, certificate := range map[string]tls.Certificate{
		"another authority":        newAuthority(t, "clients").issue(nil, syncURI),
		"expired":                  s.clients.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, syncURI),
		"not yet":                  s.clients.issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, syncURI),
		"for servers":              s.clients.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, syncURI),
		"good, with another's key": {Certificate: s.clients.issue(nil, syncURI).Certificate, PrivateKey: newKey(t)},
	} {
		for _, p := range protocols {
			// A key does not help: the handshake comes first.
			record, err := s.try(p, proof{name: name, certificate: &certificate, bearer: []string{s.keys["sync-bot"]}}, false)
			if err == nil || record.ID != "" || reasonOf(err) != "" {
				t.Errorf("%s on %s: %v, %+v", name, p.name, err, record)
			}
		}
	}
}

// A certificate that expires, and one whose authority is removed, is refused on
// an open connection.
func TestCertificateOnOpenConnection(t *testing.T) {
	s := startShared(t)
	call := func(client appv1connect.ConnectorServiceClient) string {
		_, err := client.List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: s.facts.AppID}))
		if err != nil && reasonOf(err) == "" {
			t.Fatal(err)
		}
		return reasonOf(err)
	}
	short := s.clients.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(6 * time.Second) }, syncURI)
	client := s.proving(protocols[2], proof{certificate: &short})
	if got := call(client); got != "" {
		t.Fatalf("at first: %s", got)
	}
	until(t, "the certificate has expired", func() bool { return call(client) == "UNAUTHENTICATED" })

	long := s.clients.issue(nil, syncURI)
	client = s.proving(protocols[2], proof{certificate: &long})
	if got := call(client); got != "" {
		t.Fatalf("at first: %s", got)
	}
	next := newAuthority(t, "next")
	s.clients.write(s.clientCA, next.pem())
	renewed := next.issue(nil, syncURI)
	until(t, "the new authority's certificate is accepted", func() bool {
		_, err := s.proving(protocols[2], proof{certificate: &renewed}).List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: s.facts.AppID}))
		return err == nil
	})
	if got := call(client); got != "UNAUTHENTICATED" {
		t.Errorf("the removed authority's: %s", got)
	}
	s.clients.write(s.clientCA, []byte("half a file"))
	until(t, "the log tells of the file", func() bool {
		return call(client) != "" && strings.Contains(s.logs.String(), "the old ones stay")
	})
	if got := call(s.proving(protocols[2], proof{certificate: &renewed})); got != "" {
		t.Errorf("with half a file: %s", got)
	}
}

// A session is not resumed: its certificate would be one that nobody has
// verified.
func TestNoSessionIsResumed(t *testing.T) {
	s := startShared(t)
	certificate := s.clients.issue(nil, syncURI)
	config := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificate}, ClientSessionCache: tls.NewLRUClientSessionCache(4)} // as above
	for range 3 {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		r := s.post("c1.api.app.v1.ConnectorService/List", "", `{"appId":"`+s.facts.AppID+`"}`)
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 || response.TLS.DidResume {
			t.Errorf("status %d, resumed %v", response.StatusCode, response.TLS.DidResume)
		}
	}
}

// Two callers on one connection are two.
func TestTwoCallersOnOneConnection(t *testing.T) {
	s := startShared(t)
	client := s.httpClient(false)
	tokens := map[string]string{"sync-bot": s.issuer.token("first", nil, nil), "reader": s.issuer.token("first", nil, map[string]any{"sub": "x", "role": "reader"}), "": "x"}
	var calls sync.WaitGroup
	for range 20 {
		for caller, token := range tokens {
			calls.Go(func() {
				status, header, body := do(t, client, s.post("c1.api.app.v1.ConnectorService/List", token, `{"appId":"`+s.facts.AppID+`"}`))
				records := s.records(header.Get("X-Request-Id"))
				if got := records[len(records)-1].Caller; got != caller || (status == 200) != (caller != "") {
					t.Errorf("%q: %d %s, on record as %q", caller, status, body, got)
				}
			})
		}
	}
	calls.Wait()
}

// A key of the issuer's that is new works, one that is not there causes one
// fetch, and an issuer that is down at first makes the gateway unready and not
// dead.
func TestIssuerLive(t *testing.T) {
	s := startShared(t, func(issuer *issuerServer) { issuer.down = true })
	good := proof{name: "token", bearer: []string{s.issuer.token("first", nil, nil)}}
	for _, p := range protocols {
		record, err := s.try(p, good, false)
		if connect.CodeOf(err) != connect.CodeUnavailable || reasonOf(err) != "ISSUER_UNAVAILABLE" || record.Error != "ISSUER_UNAVAILABLE" || detail[*errdetails.RetryInfo](err) == nil {
			t.Errorf("%s with the issuer down: %v, %+v", p.name, err, record)
		}
	}
	if status, body := s.admin("/readyz"); status != 503 || !strings.Contains(body, "its keys were never had: read discovery document: the issuer answered 503") {
		t.Errorf("ready: %d %s", status, body)
	}
	if _, err := s.try(protocols[0], proof{name: "key", bearer: []string{s.keys["sync-bot"]}}, false); err != nil {
		t.Errorf("a key: %v", err)
	}
	s.issuer.with(func() { s.issuer.down = false })
	until(t, "the issuer's keys are had", func() bool { _, err := s.try(protocols[0], good, false); return err == nil })
	var before int
	second, begun := newKey(t), time.Now()
	s.issuer.with(func() { before, s.issuer.keys["second"] = s.issuer.hits, second })
	for _, p := range protocols {
		if record, err := s.try(p, proof{name: "new", bearer: []string{s.issuer.token("second", nil, nil)}}, true); err != nil || record.Credential != "oidc:login:second" {
			t.Errorf("%s with a new key: %v, %+v", p.name, err, record)
		}
	}
	for i := range 50 { // few enough that each has a record of its own
		kid := fmt.Sprint("unknown", i)
		if _, err := s.try(protocols[0], proof{name: kid, bearer: []string{s.issuer.token(kid, second, nil)}}, false); reasonOf(err) != "UNAUTHENTICATED" {
			t.Errorf("%s: %v", kid, err)
		}
	}
	fetches := 0
	s.issuer.with(func() { fetches = s.issuer.hits - before })
	if most := 1 + int(time.Since(begun)/(10*time.Second)); fetches < 1 || fetches > most {
		t.Errorf("%d fetches for one new key and many that are not there, at most %d may be", fetches, most)
	}
	for _, want := range []string{fmt.Sprintf(`c1proxy_issuer_fetches_total{issuer="login",outcome="ok"} %d`, 1+fetches), `c1proxy_issuer_fetches_total{issuer="login",outcome="failed"}`, `c1proxy_issuer_keys_age_seconds{issuer="login"}`} {
		if body := s.metrics(); !strings.Contains(body, want) {
			t.Errorf("metrics have no %s in\n%s", want, grep(body, "issuer"))
		}
	}
}

// A token that stands where it does not belong is in no record and no message.
func TestTokenWhereItDoesNotBelong(t *testing.T) {
	s := startShared(t)
	token := s.issuer.token("first", nil, nil)
	s.keys["token"] = token
	r := s.post("c1.api.app.v1.ConnectorService/List", token, `{"appId":"`+s.facts.AppID+`","`+token+`":1}`)
	r.Header.Set("C1proxy-Reason", "because of "+token)
	r.Header.Set("X-Request-Id", token)
	r.Header.Set("C1proxy-Team", token)
	status, _, body := do(t, s.httpClient(false), r)
	if status != 403 || strings.Contains(body, token) {
		t.Errorf("got %d %s", status, body)
	}
	r = s.post("c1.api.app.v1.ConnectorService/List", token, `{"appId":"`+s.facts.AppID+`","`+token+`":1}`)
	r.Header.Set("C1proxy-Reason", "because of "+token)
	status, header, body := do(t, s.httpClient(false), r)
	if status != 400 || strings.Contains(body, token) || s.records(header.Get("X-Request-Id"))[0].Reason != "because of jwt_[redacted]" {
		t.Errorf("got %d %s", status, body)
	}
	// C1 writes paths down too.
	r = s.post("c1.api.app.v1.ConnectorService/List", token, `{"appId":"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"}`)
	status, header, body = do(t, s.httpClient(false), r)
	if records := s.records(header.Get("X-Request-Id")); status != 400 || !strings.Contains(body, "BAD_PATH_VALUE") || len(records) != 1 || records[0].Path[0].Value != "jwt_[redacted]" {
		t.Errorf("got %d %s, %+v", status, body, records)
	}
}
