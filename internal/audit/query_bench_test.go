package audit_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// traffic is a day of calls: intent and outcome, one after the other, of 20
// teams, 200 callers, 300 methods, 5,000 apps and 100,000 users.
func traffic(n int) (day time.Time, fill func(i int, r *audit.Record)) {
	day = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	step := 24 * time.Hour / time.Duration(n)
	return day, func(i int, r *audit.Record) {
		call := i / 2
		mixed := uint64(call) * 0x9e3779b97f4a7c15 >> 16
		team := mixed % 20
		*r = audit.Record{ID: fmt.Sprintf("ZBCV65T2DII6D7R2CS%08d", i), Time: day.Add(time.Duration(i)*step + time.Duration(mixed%1000)),
			Kind: audit.KindIntent, RequestID: fmt.Sprintf("zq4n7x2lj5w3k6h5d2%08d", call), ClientRequestID: fmt.Sprintf("import-2026-11-23/%d", call),
			Caller: fmt.Sprintf("bot-%d-%d", team, mixed>>8%10), Team: fmt.Sprintf("team-%d", team), Tenant: "default", Credential: "client:7f3a",
			Procedure: fmt.Sprintf("/c1.api.app.v1.Service%d/Method%d", mixed>>12%30, mixed>>18%10), Door: "grpc", Peer: fmt.Sprintf("10.2.3.4:%d", 1024+mixed%60000),
			PolicyRevision: "sha256:8c6976e5b541", Rule: fmt.Sprintf("team-%d.rule-3", team),
			Path: audit.Fields{{Name: "app_id", Value: fmt.Sprintf("2Nd5fgTyYh7QwRzW0v9kLm%05d", mixed>>5%5000)}, {Name: "user_id", Value: fmt.Sprintf("2Nd5fgTyYh7QwRzW0v9k%07d", mixed>>3%100_000)}}}
		if i%2 == 1 {
			r.Kind, r.Intent, r.Outcome, r.Code = audit.KindOutcome, fmt.Sprintf("ZBCV65T2DII6D7R2CS%08d", i-1), audit.OutcomeOK, "ok"
			r.UpstreamStatus, r.Attempts, r.Duration = 200, []int{200}, time.Duration(mixed%90_000)*time.Microsecond
			if mixed%50 == 0 {
				r.Outcome, r.Code, r.Error, r.UpstreamStatus, r.Attempts = audit.OutcomeFailed, "not_found", "UPSTREAM_REFUSED", 404, []int{404}
			}
		}
	}
}

// BenchmarkAuditQuery searches a log of 200,000 records, or of as many as
// AUDIT_QUERY_RECORDS says. The index was made before; "first" is the query that
// makes it.
func BenchmarkAuditQuery(b *testing.B) {
	n, _ := strconv.Atoi(cmp.Or(os.Getenv("AUDIT_QUERY_RECORDS"), "200000"))
	dir := filepath.Join(b.TempDir(), "log") // a disk, and as large as it must be
	day, fill := traffic(n)
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := audit.Generate(dir, n, 64<<20, fill); err != nil {
		b.Fatal(err)
	}
	hour := audit.Filter{Since: day.Add(13 * time.Hour), Until: day.Add(14 * time.Hour)}
	byTeam, byDenial := hour, hour
	byTeam.Team, byDenial.Outcome = "team-7", audit.OutcomeFailed
	var r audit.Record
	fill(n/3, &r)
	for _, c := range []struct {
		name    string
		filter  audit.Filter
		noIndex bool
	}{
		{"no-index", byTeam, true},
		{"first", byTeam, false},
		{"team+hour", byTeam, false},
		{"failed+hour", byDenial, false},
		{"hour", hour, false},
		{"team", audit.Filter{Team: "team-7"}, false},
		{"request-id", audit.Filter{RequestID: r.RequestID}, false},
		{"path-app", audit.Filter{Path: r.Path[:1]}, false},
		{"path-user", audit.Filter{Path: audit.Fields{{Value: r.Path[1].Value}}}, false},
		{"nothing", audit.Filter{Team: "none"}, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			found := 0
			for b.Loop() {
				found = 0
				search := audit.Search{Dir: dir, Filter: c.filter, NoIndex: c.noIndex}
				if err := search.Run(b.Context(), func(audit.Record) error { found++; return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(found), "found")
		})
	}
	b.Run("index", func(b *testing.B) { indexSize(b, dir, n) })
}

// indexSize reports what the log and its indexes take.
func indexSize(b *testing.B, dir string, n int) {
	sizes := map[string]int64{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	segments := 0
	for _, entry := range slices.Backward(entries) {
		info, err := entry.Info()
		if err != nil {
			b.Fatal(err)
		}
		sizes[filepath.Ext(entry.Name())] += info.Size()
		if filepath.Ext(entry.Name()) == ".jsonl" {
			segments++
		}
	}
	b.ReportMetric(float64(sizes[".jsonl"])/float64(n), "log-B/record")
	b.ReportMetric(float64(sizes[".index"])/float64(n), "index-B/record")
	b.ReportMetric(float64(sizes[".jsonl"]), "log-B")
	b.ReportMetric(float64(segments), "segments")
}
