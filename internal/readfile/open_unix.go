//go:build unix

package readfile

import "syscall"

// nonblock makes opening a named pipe return at once, without a writer. It does
// nothing to a regular file.
const nonblock = syscall.O_NONBLOCK
