//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
)

// Without a lock that ends with its process and a rename that replaces a file
// atomically, the storage cannot keep its promises; so it is refused.

func lockExclusively(*os.File) error {
	return fmt.Errorf("storage on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func (d directory) replace(string, func(io.Writer) error) error {
	return errors.ErrUnsupported
}
