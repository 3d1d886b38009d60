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
	"time"
)

// Timeout is how long one call of this package takes at most.
const Timeout = 10 * time.Second

// Bytes returns the content of the regular file at path. It fails with a
// *fs.PathError if the file is larger than limit bytes, is no regular file, or is
// not read before Timeout passes or ctx ends. Symbolic links are followed.
func Bytes(ctx context.Context, path string, limit int64) ([]byte, error) {
	content, err := within(ctx, &reads, path, func() ([]byte, error) { return load(path, limit) })
	return content, pathError("read", path, err)
}

// Text is Bytes for a text file: it returns what Decode makes of the content.
func Text(ctx context.Context, path string, limit int64) ([]byte, error) {
	content, err := Bytes(ctx, path, limit)
	if err != nil {
		return nil, err
	}
	text, err := Decode(content)
	return text, pathError("read", path, err)
}

// Stat is os.Stat that fails if there is no answer before Timeout passes or ctx ends.
func Stat(ctx context.Context, path string) (fs.FileInfo, error) {
	info, err := within(ctx, &stats, path, func() (fs.FileInfo, error) { return os.Stat(path) })
	return info, pathError("stat", path, err)
}

// Glob returns the names that match the pattern and are no directories, sorted, as
// filepath.Glob does. It fails if a directory cannot be read, or if the directories
// are not read before Timeout passes or ctx ends. One that does not exist holds
// nothing.
func Glob(ctx context.Context, pattern string) ([]string, error) {
	return within(ctx, &globs, pattern, func() ([]string, error) {
		if err := checkDirectories(pattern); err != nil {
			return nil, err
		}
		matches, err := filepath.Glob(pattern)
		return slices.DeleteFunc(matches, isDirectory), err
	})
}

// checkDirectories returns why a directory that the pattern looks into cannot be
// read. filepath.Glob takes such a directory for an empty one.
func checkDirectories(pattern string) error {
	parent := filepath.Dir(pattern)
	directories := []string{parent}
	if strings.ContainsAny(parent, "*?[") {
		if err := checkDirectories(parent); err != nil {
			return err
		}
		var err error
		if directories, err = filepath.Glob(parent); err != nil {
			return err
		}
	}
	for _, directory := range directories {
		if err := checkDirectory(directory); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// checkDirectory returns why a directory cannot be read. Other files can.
func checkDirectory(path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return err
	}
	f, err := os.Open(path) // #nosec G304 -- the operator names the directory
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Readdirnames(1); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// pathError wraps err so that it names the path, unless err is nil or names a path already.
func pathError(op, path string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok || err == nil {
		return err
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
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
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0) // #nosec G304 -- the operator names the file
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

// calls are the calls of the file system under way, by name. The system cannot end
// one that hangs: it keeps its thread. One call a name bounds how many there are,
// however often the name is read.
type calls struct {
	mu      sync.Mutex
	running map[string]chan struct{} // Closed when the call ends.
}

var reads, stats, globs calls

// acquire waits until no call for the name is under way, and registers one.
func (c *calls) acquire(ctx context.Context, name string) error {
	for {
		c.mu.Lock()
		ended, busy := c.running[name]
		if !busy {
			if c.running == nil {
				c.running = make(map[string]chan struct{})
			}
			c.running[name] = make(chan struct{})
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *calls) release(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.running[name])
	delete(c.running, name)
}

var errTimeout = fmt.Errorf("not read within %s: check the file system that holds it: %w", Timeout, os.ErrDeadlineExceeded)

// within returns what call returns, or an error once Timeout has passed or ctx has
// ended; the call then ends on its own, if ever.
func within[T any](ctx context.Context, c *calls, name string, call func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Timeout, errTimeout)
	defer cancel()
	var none T
	if err := c.acquire(ctx, name); err != nil {
		return none, err
	}
	type result struct {
		value T
		err   error
	}
	results := make(chan result, 1)
	go func() {
		value, err := call()
		c.release(name)
		results <- result{value, err}
	}()
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}
