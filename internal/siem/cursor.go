package siem

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/c1proxy/c1proxy/internal/durable"
)

// A cursor is a file that says how far a sink is: {"origin":"...","next":42}.
type cursor struct{ path, origin string }

type position struct {
	Origin string `json:"origin"`
	Next   uint64 `json:"next"`
}

// read returns the number of the first record that is not delivered. A cursor
// of another log is none of this one's.
func (c cursor) read() (next uint64, found bool, err error) {
	data, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read cursor: %w", err)
	}
	var p position
	if err := json.Unmarshal(data, &p); err != nil || p.Origin == "" {
		return 0, false, fmt.Errorf("read cursor %s: it is none: remove it, and the sink begins anew", c.path)
	}
	if p.Origin != c.origin {
		return 0, false, fmt.Errorf("read cursor %s: it is of the log %s, and this is %s: remove it, and the sink begins anew", c.path, p.Origin, c.origin)
	}
	return p.Next, true, nil
}

// write puts the cursor on disk.
func (c cursor) write(next uint64) error {
	data, err := json.Marshal(position{Origin: c.origin, Next: next})
	if err == nil {
		err = durable.WriteFile(c.path, append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	return nil
}
