//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package storage

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/google/renameio/v2"
)

// lockExclusively takes a lock that ends with the process, however it ends.
func lockExclusively(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}

// replace puts a whole new file in the place of another, or leaves the other
// as it was.
func (d directory) replace(file string, write func(io.Writer) error) (err error) {
	root, err := d.root()
	if err != nil {
		return err
	}
	pending, err := renameio.NewPendingFile(file, renameio.WithRoot(root), renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pending.Cleanup()) }()
	if err := write(pending); err != nil {
		return err
	}
	return pending.CloseAtomicallyReplace()
}
