package readfile

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadRegularFileUpToLimit(t *testing.T) {
	path := write(t, "file", bytes.Repeat([]byte("x"), 2048))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	for _, name := range []string{path, link} {
		content, err := Bytes(t.Context(), name, 2048)
		if err != nil || len(content) != 2048 {
			t.Errorf("%s: %d bytes, %v", name, len(content), err)
		}
	}
	_, err := Bytes(t.Context(), path, 2047)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "larger than 2047 bytes") {
		t.Errorf("beyond the limit: error is %v", err)
	}
	if _, err := Bytes(t.Context(), path, 1024); err == nil || !strings.Contains(err.Error(), "larger than 1 KiB") {
		t.Errorf("beyond the limit: error is %v", err)
	}
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	for name, test := range map[string]struct{ path, want string }{
		"a directory":    {t.TempDir(), "a directory, not a regular file"},
		"a device":       {os.DevNull, "not a regular file"},
		"a missing file": {filepath.Join(t.TempDir(), "none"), fs.ErrNotExist.Error()},
	} {
		_, err := Bytes(t.Context(), test.path, 10)
		var at *fs.PathError
		if !errors.As(err, &at) || at.Path != test.path {
			t.Errorf("%s: error %v does not name the path", name, err)
		}
		if err == nil || !strings.Contains(err.Error(), test.want) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error is %v, want %q", name, err, test.want)
		}
	}
}

// A hanging file system blocks stat, open and read, and none of these can be
// cancelled.
func TestHangingFileSystemTimesOutAndBlocksOneThreadPerName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started atomic.Int32
		hang := make(chan struct{})
		read := func(ctx context.Context) error {
			_, err := withTimeout(ctx, call{"read", "secret"}, func() ([]byte, error) {
				started.Add(1)
				<-hang
				return nil, nil
			})
			return err
		}
		for range 3 {
			start := time.Now()
			if err := read(t.Context()); !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "file system") {
				t.Errorf("error is %v", err)
			}
			if took := time.Since(start); took != Timeout {
				t.Errorf("it took %s", took)
			}
		}
		if n := started.Load(); n != 1 {
			t.Errorf("%d calls hang, want one", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := read(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("with a cancelled context: error is %v", err)
		}
		if content, err := withTimeout(t.Context(), call{"read", "other"}, func() (string, error) { return "x", nil }); content != "x" || err != nil {
			t.Errorf("another name is blocked, too: %q, %v", content, err)
		}

		close(hang)
		if err := read(t.Context()); err != nil {
			t.Errorf("once the file system works again: %v", err)
		}
		inProgress := 0
		running.Range(func(any, any) bool { inProgress++; return true })
		if n := started.Load(); n != 2 || inProgress != 0 {
			t.Errorf("%d calls, %d in progress", n, inProgress)
		}
	})
}

func TestTextDropsByteOrderMarkAndRejectsUTF16(t *testing.T) {
	for name, test := range map[string]struct {
		content, want string
		rejected      bool
	}{
		"plain":                               {content: "s3cr3t\r\n", want: "s3cr3t\r\n"},
		"empty":                               {},
		"one letter":                          {content: "x", want: "x"},
		"UTF-8 with a byte-order mark":        {content: "\ufeffs3cr3t", want: "s3cr3t"},
		"only a byte-order mark":              {content: "\ufeff"},
		"Latin-1 comment of a PEM file":       {content: "M\xfcller", want: "M\xfcller"},
		"UTF-16 LE with a byte-order mark":    {content: "\xff\xfes\x003\x00", rejected: true},
		"UTF-16 BE with a byte-order mark":    {content: "\xfe\xff\x00s\x003", rejected: true},
		"UTF-16 LE without a byte-order mark": {content: "s\x003\x00", rejected: true},
		"UTF-16 BE without a byte-order mark": {content: "\x00s\x003", rejected: true},
		"UTF-32 LE with a byte-order mark":    {content: "\xff\xfe\x00\x00s\x00\x00\x00", rejected: true},
		"UTF-16 LE, not ASCII":                {content: "\xff\xfe\xe4\x04", rejected: true},
	} {
		path := write(t, "file", []byte(test.content))
		got, err := Text(t.Context(), path, 100)
		if string(got) != test.want || errors.Is(err, ErrUTF16) != test.rejected || !test.rejected && err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if test.rejected && !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v does not name the file", name, err)
		}
	}
}

func TestGlobSkipsDirectories(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.txt", "a.txt", "c.yml"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "d.txt"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := Glob(t.Context(), filepath.Join(dir, "*.txt"))
	if want := []string{filepath.Join(dir, "a.txt"), filepath.Join(dir, "b.txt")}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if _, err := Glob(t.Context(), "["); !errors.Is(err, filepath.ErrBadPattern) {
		t.Errorf("error is %v", err)
	}
}

func TestGlobFailsForUnreadableDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"good", "empty"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"good/list.txt", "file"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A link to itself fails for every user, root included.
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Skip(err)
	}
	for pattern, want := range map[string]struct {
		names int
		fails bool
	}{
		"good/*.txt":    {names: 1},
		"empty/*.txt":   {},
		"missing/*.txt": {},
		"file/*.txt":    {},
		"[ge]*/*.txt":   {names: 1},
		"loop/*.txt":    {fails: true},
		"*/*.txt":       {fails: true},
		"loop/*/*.txt":  {fails: true},
	} {
		names, err := Glob(t.Context(), filepath.Join(dir, pattern))
		if len(names) != want.names || (err != nil) != want.fails {
			t.Errorf("%s: %d names, %v", pattern, len(names), err)
		}
	}
}
