package audit

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/c1proxy/c1proxy/internal/durable"
)

// sign is the goroutine that signs heads, which no caller waits for: one at
// once when the log has grown, the next at least a second later. A head that
// could not be written is tried again after that second, with what came since.
func (l *Log) sign() {
	defer l.signers.Done()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-l.stop:
			return
		}
		select {
		case <-l.grown:
		case <-l.stop:
			return
		}
		if l.signHead() != nil {
			poke(l.grown)
		}
		pause.Reset(signEvery)
	}
}

// signHead signs the tree of what is on disk and writes the checkpoint. It does
// nothing if that tree is signed already. It may be called at any time.
//
// It refuses when the directory is no longer ours: another process may have
// begun another log at its path, whose head this is not.
//
// Syscalls: fstat, stat, and those of [durable.WriteFile].
func (l *Log) signHead() error {
	l.signing.Lock()
	defer l.signing.Unlock()
	t, err := l.writer.snapshot()
	if err == nil && t.size == l.signed {
		return nil
	}
	var data []byte
	if err == nil {
		data, err = head{origin: l.key.Origin(), size: t.size, root: t.root()}.sign(l.key.signer)
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(l.cfg.Dir, headName), data, fileMode)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.stats.HeadFailures++
		l.complain("the audit log's head cannot be signed", err)
		return fmt.Errorf("sign head: %w", err)
	}
	l.signed, l.stats.HeadSize = t.size, t.size
	return nil
}
