// Package readfile reads the files that an operator names: only regular ones, of
// bounded size, and within bounded time. A named pipe, a device, a log file that
// grows or a network mount that hangs yields an error, never a caller that waits
// without end.
package readfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Timeout is how long one call of this package takes at most.
const Timeout = 10 * time.Second

// Bytes returns the content of the regular file at path. It fails with a
// *fs.PathError if the file is larger than limit bytes, is no regular file, or is
// not read before Timeout passes or ctx ends. Symbolic links are followed.
func Bytes(ctx context.Context, path string, limit int64) ([]byte, error) {
	return within(ctx, call{"read", path}, func() ([]byte, error) { return load(path, limit) })
}

// Text is Bytes for a text file: it returns what Decode makes of the content.
func Text(ctx context.Context, path string, limit int64) ([]byte, error) {
	content, err := Bytes(ctx, path, limit)
	if err != nil {
		return nil, err
	}
	if content, err = Decode(content); err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return content, nil
}

// Stat is os.Stat that fails if there is no answer before Timeout passes or ctx ends.
func Stat(ctx context.Context, path string) (fs.FileInfo, error) {
	return within(ctx, call{"stat", path}, func() (fs.FileInfo, error) { return os.Stat(path) })
}

// Glob returns the names that match the pattern and are no directories, sorted, as
// filepath.Glob does. It fails if a directory cannot be read, or if the directories
// are not read before Timeout passes or ctx ends. One that does not exist holds
// nothing.
func Glob(ctx context.Context, pattern string) ([]string, error) {
	return within(ctx, call{"list", pattern}, func() ([]string, error) {
		if err := checkDirectories(filepath.Dir(pattern)); err != nil {
			return nil, err
		}
		matches, err := filepath.Glob(pattern)
		return slices.DeleteFunc(matches, isDirectory), err
	})
}

// checkDirectories returns why a directory that matches the pattern, or one that
// leads to it, cannot be read. filepath.Glob takes such a directory for an empty one.
func checkDirectories(pattern string) error {
	directories := []string{pattern}
	if strings.ContainsAny(pattern, "*?[") {
		err := checkDirectories(filepath.Dir(pattern))
		if err == nil {
			directories, err = filepath.Glob(pattern)
		}
		if err != nil {
			return err
		}
	}
	for _, directory := range directories {
		info, err := os.Stat(directory)
		if err == nil && info.IsDir() {
			_, err = os.ReadDir(directory)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// load reads a regular file.
func load(path string, limit int64) ([]byte, error) {
	// Opening some devices has an effect of its own, so look before.
	info, err := os.Stat(path)
	if err == nil {
		err = checkRegular(info)
	}
	if err != nil {
		return nil, err
	}
	// O_NONBLOCK opens a named pipe at once, without a writer. Regular files and
	// Windows ignore it.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The name may stand for another file by now.
	if info, err = f.Stat(); err == nil {
		err = checkRegular(info)
	}
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("larger than %s", size(limit))
	}
	return content, err
}

func checkRegular(info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		return errors.New("a directory, not a regular file")
	case mode&fs.ModeNamedPipe != 0:
		return errors.New("a named pipe, not a regular file")
	default:
		return errors.New("not a regular file")
	}
}

func size(bytes int64) string {
	switch {
	case bytes >= 1<<20 && bytes%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", bytes>>20)
	case bytes >= 1<<10 && bytes%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", bytes>>10)
	default:
		return fmt.Sprintf("%d bytes", bytes)
	}
}

// call is a call of the file system.
type call struct{ op, path string }

// running has, for each call that is under way, a channel that is closed when it
// ends. The system cannot end one that hangs: it keeps its thread. One of each call
// bounds how many there are, however often the path is read.
var running sync.Map

var errTimeout = fmt.Errorf("not read within %s: check the file system that holds it: %w", Timeout, os.ErrDeadlineExceeded)

// within returns what do returns, or an error once Timeout has passed or ctx has
// ended; do then ends on its own, if ever. An error names a path, that of the call
// unless it is another.
func within[T any](ctx context.Context, c call, do func() (T, error)) (value T, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Timeout, errTimeout)
	defer cancel()
	defer func() {
		if _, named := errors.AsType[*fs.PathError](err); !named && err != nil {
			err = &fs.PathError{Op: c.op, Path: c.path, Err: err}
		}
	}()
	mine := make(chan struct{})
	for {
		other, busy := running.LoadOrStore(c, mine)
		if !busy {
			break
		}
		select {
		case <-other.(chan struct{}):
		case <-ctx.Done():
			return value, context.Cause(ctx)
		}
	}
	var done T
	var failed error
	go func() {
		done, failed = do()
		running.Delete(c)
		close(mine)
	}()
	select {
	case <-mine:
		return done, failed
	case <-ctx.Done():
		return value, context.Cause(ctx)
	}
}
