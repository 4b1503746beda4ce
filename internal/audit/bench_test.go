package audit_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// BenchmarkAppend is 64 callers that append one record after the other.
func BenchmarkAppend(b *testing.B) {
	dir := b.TempDir()
	l, err := audit.Open(b.Context(), audit.Config{Dir: filepath.Join(dir, "log"), KeyFile: filepath.Join(dir, "key")})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	before := l.Stats()
	var n atomic.Int64
	b.SetParallelism(32) // times GOMAXPROCS
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n.Add(1)
			r := call()
			if err := l.Append(b.Context(), &r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.StopTimer()
	after := l.Stats()
	b.ReportMetric(float64(after.Records-before.Records)/float64(after.Syncs-before.Syncs), "records/sync")
}

// BenchmarkVerify reads a log of 20,000 records, and so does BenchmarkQuery.
func BenchmarkVerify(b *testing.B) {
	dir, vkey := benchLog(b)
	for b.Loop() {
		if _, err := audit.Verify(b.Context(), dir, vkey); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20_000, "ns/record")
}

func BenchmarkQuery(b *testing.B) {
	dir, _ := benchLog(b)
	for b.Loop() {
		err := audit.Query(b.Context(), dir, audit.Filter{Team: "none"}, func(audit.Record) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20_000, "ns/record")
}

// benchLog makes a closed log of 20,000 records.
func benchLog(b *testing.B) (dir, vkey string) {
	base := fastDir(b)
	cfg := audit.Config{Dir: filepath.Join(base, "log"), KeyFile: filepath.Join(base, "key")}
	l, err := audit.Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	for range 20_000 {
		r := call()
		if err := l.Append(b.Context(), &r); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	return cfg.Dir, l.VerifierKey()
}

// BenchmarkEncode is the part of an append that each caller does by itself.
func BenchmarkEncode(b *testing.B) {
	r := call()
	r.ID = "ZBCV65T2DII6D7R2CSJ5YMOMAB"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.MarshalJSON(); err != nil {
			b.Fatal(err)
		}
	}
}

// call is a record as the gateway writes it.
func call() audit.Record {
	return audit.Record{
		Kind: audit.KindDenied, RequestID: "zq4n7x2lj5w3k6h5d2y7c4t3ae", ClientRequestID: "import-2026-11-23/42",
		Caller: "sync-bot", Team: "payments", Tenant: "default", Credential: "key:7f3a",
		Procedure: "/c1.api.app.v1.AppOwners/Add", Door: "grpc", Peer: "10.2.3.4:51234",
		PolicyRevision: "sha256:8c6976e5b541", Rule: "payments.owners",
		Path:   audit.Fields{{Name: "app_id", Value: "2Nd5fgTyYh7QwRzW0v9kLmXcBbA"}, {Name: "user_id", Value: "2Nd5fgTyYh7QwRzW0v9kLmXcBbB"}},
		Reason: "ticket OPS-4711", Code: "permission_denied", Error: "METHOD_DENIED", Duration: 137 * time.Microsecond,
	}
}
