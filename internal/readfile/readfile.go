// Package readfile reads files that an operator names: only regular files of
// limited size, within limited time. A named pipe, a device, a growing log file
// or a hanging network mount causes an error. It never blocks the caller
// indefinitely.
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

// Timeout is the maximum duration of a call to this package.
const Timeout = 10 * time.Second

// Bytes returns the content of the regular file at path. It returns a
// *fs.PathError if the file is larger than limit bytes, is not a regular file, or
// is not read before Timeout or the end of ctx. It follows symbolic links.
func Bytes(ctx context.Context, path string, limit int64) ([]byte, error) {
	return withTimeout(ctx, call{"read", path}, func() ([]byte, error) { return load(path, limit) })
}

// Text is Bytes for a text file. It applies Decode to the content.
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

// Stat is os.Stat with a limit: it returns an error after Timeout or at the end
// of ctx.
func Stat(ctx context.Context, path string) (fs.FileInfo, error) {
	return withTimeout(ctx, call{"stat", path}, func() (fs.FileInfo, error) { return os.Stat(path) })
}

// Glob returns the sorted names that match the pattern, without directories.
// Unlike filepath.Glob it returns an error if a directory cannot be read, and
// after Timeout or at the end of ctx. A missing directory has no files.
func Glob(ctx context.Context, pattern string) ([]string, error) {
	return withTimeout(ctx, call{"list", pattern}, func() ([]string, error) {
		if err := checkDirectories(filepath.Dir(pattern)); err != nil {
			return nil, err
		}
		matches, err := filepath.Glob(pattern)
		return slices.DeleteFunc(matches, isDirectory), err
	})
}

// checkDirectories returns an error if a directory that matches the pattern, or
// one of its parents, cannot be read. filepath.Glob treats such a directory as
// empty.
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
	// Opening some devices has side effects, so check first.
	info, err := os.Stat(path)
	if err == nil {
		err = checkRegular(info)
	}
	if err != nil {
		return nil, err
	}
	// O_NONBLOCK opens a named pipe without waiting for a writer. Regular files
	// and Windows ignore it.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The file may have been replaced since.
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

// call identifies a file system operation.
type call struct{ op, path string }

// running contains a channel for each running call, which is closed when the call
// ends. A hanging call cannot be cancelled and blocks its thread. So each call
// runs only once at a time, however often it is requested.
var running sync.Map

var errTimeout = fmt.Errorf("not read within %s: check its file system: %w", Timeout, os.ErrDeadlineExceeded)

// withTimeout returns the result of do, or an error after Timeout or at the end
// of ctx; do then continues in the background. Every error names a path, by
// default the call's.
func withTimeout[T any](ctx context.Context, c call, do func() (T, error)) (value T, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Timeout, errTimeout)
	defer cancel()
	defer func() {
		if _, named := errors.AsType[*fs.PathError](err); !named && err != nil {
			err = &fs.PathError{Op: c.op, Path: c.path, Err: err}
		}
	}()
	finished := make(chan struct{})
	for {
		other, busy := running.LoadOrStore(c, finished)
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
		close(finished)
	}()
	select {
	case <-finished:
		return done, failed
	case <-ctx.Done():
		return value, context.Cause(ctx)
	}
}
