package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync puts the data of f on disk, and of its metadata what is needed to
// read it back: the size, not the times. A signal that interrupts it is no
// failure.
func datasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
