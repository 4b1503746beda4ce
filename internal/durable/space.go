package durable

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Free returns how many bytes a process without privileges can still write to
// the file system of dir, and how many it has in all.
//
// Syscalls: statfs.
func Free(dir string) (free, total uint64, err error) {
	var s unix.Statfs_t
	for {
		err = unix.Statfs(dir, &s)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read free space of %s: %w", dir, err)
	}
	block := uint64(s.Bsize)
	return uint64(s.Bavail) * block, uint64(s.Blocks) * block, nil
}
