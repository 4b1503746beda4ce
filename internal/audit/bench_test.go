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
