// Package broken does not build.
package broken

import "testing"

func TestNothing(*testing.T) { undefined() }
