package audit_test

import (
	"os"
	"testing"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// TestLeavesMissingAcrossSegments: a segment without its leaves is read at the
// next start, and the later ones, which have them, are not. Its calls had
// their outcomes there: none of them becomes indeterminate.
func TestLeavesMissingAcrossSegments(t *testing.T) {
	k := newKit(t)
	in := k.mustAppend(intent("across"))
	must(t, k.log.Seal(t.Context()))
	k.mustAppend(outcome(in, audit.OutcomeOK))
	must(t, k.log.Seal(t.Context()))
	open := k.mustAppend(intent("open"))
	must(t, k.log.Seal(t.Context()))
	k.call("after")
	k.close()

	for _, lost := range []int{0, 1, 2} {
		name := k.segments()[lost]
		must(t, os.Remove(leaves(name)))
		k.open()
		k.check()
		k.settled("across", "outcome ok ok")
		k.settled("open", "outcome indeterminate unknown OUTCOME_UNKNOWN")
		k.close()
		if report := k.check(); report.OpenIntents != 0 {
			t.Fatalf("without the leaves of %s: %+v", name, report)
		}
	}
	if got := k.finals(open.RequestID); len(got) != 1 {
		t.Errorf("the open one has %v", got)
	}
}
