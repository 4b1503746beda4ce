package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

type benchVerb struct {
	Time  string `default:"3s" help:"How long each benchmark runs, or how often, such as 20000x."`
	Count int    `default:"1" help:"How often each one runs; the median counts."`

	AuditQuery int  `placeholder:"RECORDS" help:"Instead: write an audit log of this many records, about 650 bytes each, below TMPDIR, and query it."`
	Audit      bool `help:"Measure instead what the audit's being on disk costs, against one in memory."`
}

// Run runs BenchmarkOverhead/<protocol>/<direct|handler|c1proxy> wherever it
// stands. Only ratios from one run mean anything: machines differ, and so does
// one machine from hour to hour.
func (v *benchVerb) Run(ctx context.Context) error {
	if v.AuditQuery > 0 {
		return v.auditQuery(ctx)
	}
	if v.Audit {
		return v.audit(ctx)
	}
	found, err := testFunctions(ctx, "BenchmarkOverhead")
	if err != nil {
		return fmt.Errorf("find benchmark: %w", err)
	}
	line := []string{"go", "test", "-run=^$", "-bench=^BenchmarkOverhead", "-benchmem", "-benchtime=" + v.Time, "-count=" + strconv.Itoa(v.Count)}
	for _, f := range found {
		line = append(line, "./"+f.pack)
	}
	if len(found) == 0 {
		return fmt.Errorf("find benchmark: no BenchmarkOverhead")
	}
	cmd := command(ctx, line...)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, &text), os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run benchmark: %w", err)
	}
	fmt.Println()
	return printRatios(os.Stdout, text.String())
}

// auditQuery runs BenchmarkAuditQuery over a log of as many records.
func (v *benchVerb) auditQuery(ctx context.Context) error {
	cmd := command(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkAuditQuery$", "-benchtime=1x", "-timeout=1h",
		"-count="+strconv.Itoa(v.Count), "./internal/audit")
	cmd.Env = append(cmd.Environ(), "AUDIT_QUERY_RECORDS="+strconv.Itoa(v.AuditQuery))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run benchmark: %w", err)
	}
	return nil
}

var (
	overhead = regexp.MustCompile(`(?m)^BenchmarkOverhead/([^/\s]+)/([^/\s]+?)(?:-\d+)?\s+\d+\s+(.*)$`)
	metric   = regexp.MustCompile(`([0-9.e+-]+) (\S+)`)
)

// units are the measures that are compared, processor time first; calls are
// the rows of a protocol, the bases of the ratios first.
var (
	units = []string{"cpu-us/op", "allocs/op"}
	calls = []string{"direct", "handler", "c1proxy"}
)

// readOverhead is the measured values by protocol, by call, by unit.
func readOverhead(text string) map[string]map[string]map[string][]float64 {
	measured := map[string]map[string]map[string][]float64{}
	for _, m := range overhead.FindAllStringSubmatch(text, -1) {
		protocol, call := m[1], m[2]
		if measured[protocol] == nil {
			measured[protocol] = map[string]map[string][]float64{}
		}
		if measured[protocol][call] == nil {
			measured[protocol][call] = map[string][]float64{}
		}
		for _, value := range metric.FindAllStringSubmatch(m[3], -1) {
			if n, err := strconv.ParseFloat(value[1], 64); err == nil {
				measured[protocol][call][value[2]] = append(measured[protocol][call][value[2]], n)
			}
		}
	}
	return measured
}

// printRatios prints each call's measures, and their ratios to those of a
// direct call and of the plain handler of the same protocol.
func printRatios(out io.Writer, text string) error {
	measured := readOverhead(text)
	if len(measured) == 0 {
		return fmt.Errorf("read benchmark: no line of BenchmarkOverhead/<protocol>/<call>")
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := []string{"protocol", "call"}
	for _, unit := range units {
		head = append(head, unit, "to direct", "to handler")
	}
	fmt.Fprintln(table, strings.Join(head, "\t"))
	for _, protocol := range slices.Sorted(maps.Keys(measured)) {
		of := measured[protocol]
		for _, call := range calls {
			if of[call] == nil {
				continue
			}
			row := []string{protocol, call}
			for _, unit := range units {
				value := of[call][unit]
				row = append(row, number(value), ratio(value, of["direct"][unit]), ratio(value, of["handler"][unit]))
			}
			fmt.Fprintln(table, strings.Join(row, "\t"))
		}
	}
	return table.Flush()
}

func number(values []float64) string {
	if len(values) == 0 {
		return "-"
	}
	return strconv.FormatFloat(median(values), 'f', 1, 64)
}

// ratio is "-" where one of the two was not measured.
func ratio(values, base []float64) string {
	if len(values) == 0 || len(base) == 0 || median(base) == 0 {
		return "-"
	}
	return strconv.FormatFloat(median(values)/median(base), 'f', 2, 64)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
