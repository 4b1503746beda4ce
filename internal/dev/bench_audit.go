package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// memoryFiles is a file system in memory.
	memoryFiles = "/dev/shm"
	// auditCallers make calls at once.
	auditCallers = 64
	// auditRounds is how often each of the two is measured, in turn: often and
	// briefly, so that what else the machine does befalls both.
	auditRounds = 40
)

// audit measures what the durability of the audit costs: how many mutations a
// second 64 callers get through the real program, with its audit on disk and
// on a file system in memory. The two take turns.
func (v *benchVerb) audit(ctx context.Context) error {
	each, err := time.ParseDuration(v.Time)
	if err != nil {
		return fmt.Errorf("read time: %w", err)
	}
	each /= 10
	if _, err := os.Stat(memoryFiles); err != nil {
		fmt.Printf("skip  audit  there is no file system in memory: %v\n", err)
		return nil
	}
	base, err := os.MkdirTemp("", "c1proxy-bench-")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer os.RemoveAll(base)
	memory, err := os.MkdirTemp(memoryFiles, "c1proxy-bench-")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer os.RemoveAll(memory)
	c := &crash{verb: new(crashVerb), base: base, binary: filepath.Join(base, "proxy"), part: "bench", segments: 64 << 20, remember: -1}
	if err := run(ctx, "go", "build", "-o", c.binary, "./cmd/proxy"); err != nil {
		return fmt.Errorf("build proxy: %w", err)
	}
	disk, err := c.bench(ctx, "disk", filepath.Join(base, "audit"))
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer disk.stop()
	shm, err := c.bench(ctx, "memory", filepath.Join(memory, "audit"))
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer shm.stop()
	var ratios []float64
	turns := []*audited64{disk, shm}
	for i := range auditRounds {
		slices.Reverse(turns) // none is always the first
		for _, b := range turns {
			if err := b.round(ctx, each); err != nil {
				return fmt.Errorf("bench: audit on %s: %w", b.name, err)
			}
		}
		ratios = append(ratios, disk.rates[i]/shm.rates[i])
	}
	fmt.Println(disk)
	fmt.Println(shm)
	slices.Sort(ratios)
	fmt.Printf("on disk to in memory: %.2f, the median of %d pairs of rounds (quartiles %.2f and %.2f)\n",
		median(ratios), len(ratios), ratios[len(ratios)/4], ratios[len(ratios)*3/4])
	return nil
}

// audited64 is a gateway whose audit is at one place, and what was measured.
type audited64 struct {
	name           string
	rig            *rig
	gateway        *gateway
	load           *load
	rates          []float64 // calls a second
	records, syncs float64
	cpu            time.Duration // of the gateway
	made           float64
}

func (c *crash) bench(ctx context.Context, name, dir string) (*audited64, error) {
	r, err := c.newRig(dir)
	if err != nil {
		return nil, err
	}
	g, err := r.serve(ctx)
	if err != nil {
		_ = r.c1.Close()
		return nil, err
	}
	b := &audited64{name: name, rig: r, gateway: g, load: r.load(g)}
	_, err = b.calls(ctx, 500*time.Millisecond) // warm
	return b, err
}

// stop ends the gateway and its C1.
func (b *audited64) stop() {
	b.load.close()
	_ = b.gateway.stop(syscall.SIGTERM)
	_ = b.rig.c1.Close()
}

// round measures for a while.
func (b *audited64) round(ctx context.Context, each time.Duration) error {
	records, syncs, err := b.gateway.audited(ctx)
	if err != nil {
		return err
	}
	cpu, ok := b.gateway.cpu(), b.load.ok.Load()
	rate, err := b.calls(ctx, each)
	b.cpu, b.made = b.cpu+b.gateway.cpu()-cpu, b.made+float64(b.load.ok.Load()-ok)
	if err != nil {
		return err
	}
	moreRecords, moreSyncs, err := b.gateway.audited(ctx)
	b.rates, b.records, b.syncs = append(b.rates, rate), b.records+moreRecords-records, b.syncs+moreSyncs-syncs
	return err
}

// calls makes mutations for a while, and returns how many a second.
func (b *audited64) calls(ctx context.Context, each time.Duration) (float64, error) {
	begun, before := time.Now(), b.load.ok.Load()
	var made atomic.Int64
	var callers sync.WaitGroup
	for range auditCallers {
		callers.Go(func() {
			for ctx.Err() == nil && time.Since(begun) < each {
				_, _ = b.load.call(ctx, "bot", "connect", 0, 0)
				made.Add(1)
			}
		})
	}
	callers.Wait()
	took, ok := time.Since(begun), b.load.ok.Load()-before
	if failed := made.Load() - ok; failed > 0 && ctx.Err() == nil {
		return 0, fmt.Errorf("%d of %d calls failed", failed, made.Load())
	}
	return float64(ok) / took.Seconds(), ctx.Err()
}

func (b *audited64) String() string {
	lowest, highest := math.Inf(1), 0.0
	for _, rate := range b.rates {
		lowest, highest = min(lowest, rate), max(highest, rate)
	}
	return fmt.Sprintf("audit on %-7s %.0f calls/s (%.0f to %.0f), %.0f us of processor time per call, %.1f records per fsync",
		b.name+":", median(b.rates), lowest, highest, float64(b.cpu.Microseconds())/b.made, b.records/b.syncs)
}

// audited reads the metrics of the audit.
func (g *gateway) audited(ctx context.Context) (records, syncs float64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.admin+"/metrics", nil)
	if err != nil {
		return 0, 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		for name, value := range map[string]*float64{"c1proxy_audit_records_total ": &records, "c1proxy_audit_syncs_total ": &syncs} {
			if text, ok := strings.CutPrefix(lines.Text(), name); ok {
				if *value, err = strconv.ParseFloat(text, 64); err != nil {
					return 0, 0, err
				}
			}
		}
	}
	return records, syncs, nil
}

// cpu is the processor time that the gateway has used, in steps of 10 ms; 0 if
// it cannot be had.
func (g *gateway) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if err != nil || len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go knows
}
