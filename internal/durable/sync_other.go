//go:build !linux

package durable

import "os"

// datasync is a full sync where fdatasync is missing or weaker. On darwin
// that is F_FULLFSYNC.
func datasync(f *os.File) error { return f.Sync() }
