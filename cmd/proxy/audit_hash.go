package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/c1proxy/c1proxy/internal/redact"
)

type auditHashCommand struct {
	File string `arg:"" placeholder:"FILE" help:"The file audit.hash_keys_file."`
}

// maxHashed bounds a value on standard input.
const maxHashed = 1 << 20

// Run reads a value, the first line of standard input, so that it stands in no
// list of processes and no shell's history, and prints its hash under each key,
// the newest first.
func (h auditHashCommand) Run(t *terminal) error {
	keys, err := redact.LoadKeys(h.File)
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, maxHashed)).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the value from standard input: %w", err)
	}
	value := strings.TrimRight(line, "\r\n")
	if value == "" {
		return fmt.Errorf("read the value from standard input: there is none; write it there, proxy audit hash %s < FILE", h.File)
	}
	_, err = fmt.Fprintln(t.out, strings.Join(keys.Forms(value), "\n"))
	return err
}

type auditRotateCommand struct {
	File string `arg:"" placeholder:"FILE" help:"The file audit.hash_keys_file. It must exist."`
}

// Run rotates, and names the keys.
func (r auditRotateCommand) Run(t *terminal) error {
	keys, err := redact.RotateKeys(r.File)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "keys of %s, the newest first: %s\n", r.File, keys)
	return err
}
