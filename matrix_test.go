package c1proxy_test

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// The matrix is team x method x tenant x door x proof. See grant for its teams'
// rules.

// A matrixTeam has one caller, who has each proof.
type matrixTeam struct {
	name, tenant string
	grants       []grant
	proofs       map[string]*everyGateway // a caller's clients, by proof
}

const matrixTeams = 8

// matrixOf are teams of two tenants, of which each kind of ruling is found more
// than once.
func matrixOf(random *rand.Rand, all []operation) (teams []*matrixTeam) {
	for found := make(map[string]int); len(found) < kinds || slices.Min(slices.Collect(maps.Values(found))) < 5; {
		clear(found)
		teams = nil
		for i := range matrixTeams {
			name := fmt.Sprint("team-", i)
			teams = append(teams, &matrixTeam{name: name, tenant: []string{"acme", "beta"}[i%2], grants: grantsOf(random, name, all)})
		}
		for i, o := range all {
			for _, team := range teams {
				found[team.ruling(o, states(i)).kind()]++
			}
		}
	}
	return teams
}

// states says whether the calls of the i-th operation state a reason.
func states(i int) bool { return i%2 == 0 }

// startMatrix starts a gateway in front of two tenants, with teams of each.
func startMatrix(t *testing.T, random *rand.Rand, all []operation) (g *gateway, teams []*matrixTeam, tenants map[string]*sandbox.Sandbox) {
	edge := newEdge(t)
	beta, err := sandbox.Start("127.0.0.1:0", sandbox.Config{Stateless: true, Remember: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { beta.Close() })
	certificates := make(map[string]tls.Certificate)
	teams = matrixOf(random, all)
	g = start(t, func(s *setup) {
		s.c1.Stateless, s.c1.Remember = true, 1
		s.facts = func(g *gateway, text string) string {
			secret := filepath.Join(filepath.Dir(g.dir), "beta")
			if err := os.WriteFile(secret, []byte(beta.Facts().ClientSecret), 0o600); err != nil {
				t.Fatal(err)
			}
			before, _, _ := strings.Cut(text, "teams:\n")
			_, after, _ := strings.Cut(text, "audit: {")
			text = edge.configure(before) + fmt.Sprintf("  - {name: beta, url: %q, allow_insecure: true, credential: {client_id: %q, client_secret: {file: %q}}}\nteams:\n",
				beta.URL(), beta.Facts().ClientID, secret)
			for _, m := range teams {
				uri := "spiffe://example.com/" + m.name
				g.keys[m.name], certificates[m.name] = authn.NewKey(), edge.clients.issue(nil, uri)
				text += fmt.Sprintf("  - name: %s\n    tenant: %s\n    callers: [{name: caller, api_keys: [{sha256: %q}], oidc: {issuer: login, subject: %s}, mtls: {uri_san: %q}}]\n    allow: %v\n",
					m.name, m.tenant, authn.HashKey(g.keys[m.name]), m.name, uri, strings.ReplaceAll(fmt.Sprint(m.grants), "} {", "}, {"))
			}
			return text + "audit: {" + after
		}
	})
	g.insecure = &tls.Config{InsecureSkipVerify: true} // the server's certificate is made for this test
	edge.await(g)
	for _, m := range teams {
		token := edge.issuer.token("first", nil, map[string]any{"sub": m.name})
		g.keys["token of "+m.name] = token // which checkSecrets looks for
		m.proofs = map[string]*everyGateway{"key": g.every(g.keys[m.name], nil), "token": g.every(token, nil),
			"certificate": g.every("", &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificates[m.name]}})}
	}
	return g, teams, map[string]*sandbox.Sandbox{"acme": g.c1.Sandbox, "beta": beta.Sandbox}
}

// A verdict is what became of a call, as its caller sees it, and what is on
// record of it, less what must differ between doors and proofs.
type verdict struct {
	Code     connect.Code
	Reason   string
	Metadata map[string]string
	Records  []audit.Record
}

// decided reads what a caller sees.
func decided(header http.Header, err error) (d verdict, id string) {
	if err == nil {
		return d, header.Get("X-Request-Id")
	}
	d.Code = connect.CodeOf(err)
	if info := detail[*errdetails.ErrorInfo](err); info != nil {
		d.Reason, d.Metadata = info.GetReason(), info.GetMetadata()
	}
	return d, requestID[int](nil, err)
}

// alike clears what differs between doors, proofs and calls.
func alike(r audit.Record) audit.Record {
	r.Seq, r.ID, r.Time, r.RequestID, r.Intent, r.Door, r.Peer, r.Credential, r.Duration = 0, "", time.Time{}, "", "", "", "", "", 0
	if delete(r.Detail, "subject"); len(r.Detail) == 0 {
		r.Detail = nil
	}
	return r
}

// A square is one call of the matrix.
type square struct {
	team        *matrixTeam
	o           operation
	reason      string // that it states
	door, proof string
	id          string
	verdict
}

// P9: a team's call of a method is decided alike, and is alike on record, on
// every door and by every proof, as its rules say; and it goes to the team's
// tenant alone.
func TestTeamsMatrix(t *testing.T) {
	var all []operation
	for i, method := range operations(t) {
		all = append(all, operationOf(t, method, i))
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	g, teams, tenants := startMatrix(t, random, all)
	work, squares := make(chan []square), make(chan []square)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for row := range work {
				for i := range row {
					row[i].call()
				}
				squares <- row
			}
		})
	}
	seen := make(map[string]int)
	go func() {
		for i, o := range all {
			for _, team := range chosen(teams, o, i, seen) {
				work <- row(team, o, states(i))
			}
		}
		close(work)
		workers.Wait()
		close(squares)
	}()
	var rows [][]square
	for row := range squares {
		rows = append(rows, row)
	}
	onRecord := make(map[string][]audit.Record)
	err := audit.Query(t.Context(), g.dir, audit.Filter{}, func(r audit.Record) error {
		onRecord[r.RequestID] = append(onRecord[r.RequestID], alike(r))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sent, refused := make(map[string]int), 0
	for _, row := range rows {
		for i := range row {
			c := &row[i]
			c.Records = onRecord[c.id]
			checkSquare(t, c)
			if diff := gocmp.Diff(row[0].verdict, c.verdict); diff != "" {
				t.Errorf("%s, %s: %s by %s and %s by %s differ:\n%s", c.team.name, c.o.procedure(), row[0].door, row[0].proof, c.door, c.proof, diff)
			}
			if c.Code == 0 {
				sent[c.team.tenant]++
			} else {
				refused++
			}
		}
	}
	for name, tenant := range tenants {
		if tenant.Hits() != sent[name] {
			t.Errorf("C1 of %s saw %d calls, want %d", name, tenant.Hits(), sent[name])
		}
	}
	t.Logf("seed %d: %d operations, %d teams, %v calls sent and %d refused; rows by ruling: %v", seed, len(all), len(teams), sent, refused, seen)
	if len(seen) != kinds {
		t.Errorf("%d kinds of rulings, want %d", len(seen), kinds)
	}
	if t.Failed() {
		for _, team := range teams {
			t.Log(team.name, team.grants)
		}
	}
}

// chosen are two teams, or one, of which the rules say different things of an
// operation: of the kinds of rulings those that were seen least. It counts them.
func chosen(teams []*matrixTeam, o operation, turn int, seen map[string]int) (chosen []*matrixTeam) {
	found := make(map[string]*matrixTeam)
	for i := range teams {
		team := teams[(turn+i)%len(teams)]
		if kind := team.ruling(o, states(turn)).kind(); found[kind] == nil {
			found[kind] = team
		}
	}
	rarest := slices.SortedFunc(maps.Keys(found), func(a, b string) int { return cmp.Or(seen[a]-seen[b], strings.Compare(a, b)) })
	for _, kind := range rarest[:min(len(rarest), 2)] {
		seen[kind]++
		chosen = append(chosen, found[kind])
	}
	return chosen
}

// row is a team's call of an operation on every door by every proof.
func row(team *matrixTeam, o operation, states bool) (row []square) {
	reason := ""
	if states {
		reason = "it's 100% due"
	}
	for _, door := range doors() {
		for _, proof := range slices.Sorted(maps.Keys(team.proofs)) {
			if door.only == nil || door.only(o) {
				row = append(row, square{team: team, o: o, reason: reason, door: door.name, proof: proof})
			}
		}
	}
	return row
}

func (c *square) call() {
	for _, door := range doors() {
		if door.name == c.door {
			caller := *c.team.proofs[c.proof]
			caller.reason = c.reason
			_, header, err := door.call(&caller, c.o)
			c.verdict, c.id = decided(header, err)
		}
	}
}

// checkSquare holds a call against its team's rules.
func checkSquare(t *testing.T, c *square) {
	t.Helper()
	want := c.team.ruling(c.o, c.reason != "")
	kinds := []audit.Kind{audit.KindIntent, audit.KindOutcome}
	if want.denied != "" {
		kinds = []audit.Kind{audit.KindDenied}
	}
	var got []audit.Kind
	for _, r := range c.Records {
		got = append(got, r.Kind)
		if r.Team != c.team.name || r.Caller != "caller" || r.Tenant != c.team.tenant || r.Rule != want.rule || r.Procedure != c.o.procedure() ||
			r.Reason != c.reason || r.Error != want.denied || want.shadow != strings.HasPrefix(r.Detail["shadow"], want.rule+": ") {
			t.Errorf("%s, %s on %s by %s: on record as %+v, want %+v", c.team.name, c.o.procedure(), c.door, c.proof, r, want)
		}
	}
	refused := c.Code == connect.CodePermissionDenied
	if refused != (want.denied != "") || c.Reason != want.denied || !refused && c.Code != 0 || !slices.Equal(got, kinds) {
		t.Errorf("%s, %s on %s by %s: %v %s, records %v; want %+v", c.team.name, c.o.procedure(), c.door, c.proof, c.Code, c.Reason, got, want)
	}
}
