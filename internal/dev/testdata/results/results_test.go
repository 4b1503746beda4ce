// Package results ends tests in every way that a tally must count.
package results

import "testing"

func TestPass(*testing.T) {}

func TestSkip(t *testing.T) {
	t.Log("no disk")
	t.Skip("needs one")
}

func TestFail(t *testing.T) { t.Error("it failed") }

func TestParent(t *testing.T) {
	t.Run("pass", func(*testing.T) {})
	t.Run("pass with/slash", func(*testing.T) {})
	t.Run("skip", func(t *testing.T) { t.Skip("not today") })
	t.Run("fail", func(t *testing.T) { t.Error("a subtest failed") })
}

func TestParentAlone(t *testing.T) {
	t.Run("pass", func(*testing.T) {})
	t.Error("the parent failed")
}
