// Package sync holds the calls that badSyncs must and must not find.
package sync

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

type store struct{ *os.File }

type own struct{}

func (own) Sync() error { return nil }

func found(f *os.File, s store) {
	_ = f.Sync()  // want
	_ = s.Sync()  // want
	put := f.Sync // want
	_ = put()
	_ = unix.Fsync(0)        // want
	flush := (*os.File).Sync // want
	_ = flush(f)
}

func notFound(o own, f *os.File) {
	_ = o.Sync()
	_ = f.Close()
	new(sync.Mutex).Lock()
}
