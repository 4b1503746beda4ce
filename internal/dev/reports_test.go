package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestConformanceReport(t *testing.T) {
	const text = "INFO: A/unary/ok failed (as expected):\n" +
		"\treceived an unexpected error:\n\tcode:CODE_UNAUTHENTICATED message:\"no\"\n" +
		"INFO: A/unary/error failed (as expected):\n" +
		"\tactual error {code: 16 (unauthenticated), message: \"no\"} does not match expected code 13 (internal)\n" +
		"INFO: A/unary/unauthenticated failed (as expected):\n\tactual error contain 0 details; expecting 1\n" +
		"INFO: B/unary/ok failed (as expected):\n\texpecting an error but received none\n" +
		"INFO: B/unary/unauthenticated failed (as expected):\n" +
		"\tactual error {code: 2 (unknown), message: \"no\"} does not match expected code 16 (unauthenticated)\n" +
		"\nTotal cases: 5\n0 passed, 0 failed\n(Another 5 failed as expected due to being known failures/flakes.)\n"

	if total, passed := counts(text); total != 5 || passed != 0 {
		t.Errorf("%d of %d passed, want 0 of 5", passed, total)
	}
	refused, others := unauthenticated(text)
	if refused != 3 || len(others) != 2 || !strings.Contains(others[0], "B/unary/ok") || !strings.Contains(others[1], "B/unary/unauth") {
		t.Errorf("%d refused, others %q; want 3, and the two of B", refused, others)
	}
	const stopped = "conformance server: 3 calls, 3 final records\nconformance server: 4 calls, 2 final records\n"
	if calls, records := audited(stopped + text); calls != 7 || records != 5 {
		t.Errorf("%d calls, %d records, want 7 and 5", calls, records)
	}
	for _, c := range []struct {
		name, text string
		verb       conformanceVerb
		want       int
		fails      bool
	}{
		{"complete", text + "conformance server: 5 calls, 5 final records\n", conformanceVerb{}, 5, false},
		{"a case lost", text + "conformance server: 5 calls, 5 final records\n", conformanceVerb{}, 6, true},
		{"some cases", text + "conformance server: 5 calls, 5 final records\n", conformanceVerb{Cases: "A/**"}, 6, false},
		{"a record lost", text + "conformance server: 5 calls, 4 final records\n", conformanceVerb{}, 5, true},
		{"no report", text, conformanceVerb{}, 5, true},
	} {
		if err := c.verb.complete(c.text, c.want); (err != nil) != c.fails {
			t.Errorf("%s: error %v, want one: %t", c.name, err, c.fails)
		}
	}
	if total, passed := counts("panic: no summary"); total != 0 || passed != 0 {
		t.Errorf("without a summary: %d of %d passed", passed, total)
	}
}

func TestOverheadReport(t *testing.T) {
	const text = `goos: linux
BenchmarkOverhead/grpc/direct-2     100  9000 ns/op   50.0 cpu-us/op  900 B/op  20 allocs/op
BenchmarkOverhead/grpc/handler-2    100  9000 ns/op  100.0 cpu-us/op  900 B/op  80 allocs/op
BenchmarkOverhead/grpc/c1proxy-2    100  9000 ns/op  110.0 cpu-us/op  900 B/op  60 allocs/op
BenchmarkOverhead/grpc/c1proxy-2    100  9000 ns/op  130.0 cpu-us/op  900 B/op  60 allocs/op
BenchmarkOverhead/json-h1/c1proxy-2 100  9000 ns/op  7.5e+01 cpu-us/op
BenchmarkOther-2                    100  9000 ns/op
PASS
`
	var out bytes.Buffer
	if err := printRatios(&out, text); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(out.String()) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"protocol call cpu-us/op to direct to handler allocs/op to direct to handler",
		"grpc direct 50.0 1.00 0.50 20.0 1.00 0.25",
		"grpc handler 100.0 2.00 1.00 80.0 4.00 1.00",
		"grpc c1proxy 120.0 2.40 1.20 60.0 3.00 0.75",
		"json-h1 c1proxy 75.0 - - - - -",
	}
	if got := strings.Join(rows, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("table\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if err := printRatios(&out, "PASS\n"); err == nil {
		t.Error("a run without the benchmark gave no error")
	}
}
