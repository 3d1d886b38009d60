package storage

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"
)

// maxFileSize is the largest file that is read, in bytes.
const maxFileSize = 1 << 30

// crcTable is the table of a checksum that detects any burst of wrong bits up to
// 64 bits long.
var crcTable = crc64.MakeTable(crc64.ECMA)

// recordFile is a text file in the storage directory. Its first line is the
// header, which names the format, its version and the owner. Every other line is
// a record:
//
//	CHECKSUM "KEY" JSON
//
// A record without JSON has a nil value. Lines with a wrong checksum are skipped.
type recordFile struct {
	storage      *Storage
	logger       *slog.Logger
	name         string
	header       string // Includes the line end.
	salt         uint64 // Checksum state that each record's checksum starts with.
	completeSize int64  // The file ends with a line end if it has this size.
}

// span is the position of a record in its file, line end included.
type span struct {
	offset, length int64
}

// scanned describes a file that was read, apart from its records.
type scanned struct {
	size  int64
	first []byte // The first line if it is not the header, else nil.
	// damaged counts the invalid lines, and damagedBytes their bytes.
	damaged, damagedBytes int64
}

// formatRecord returns the line of a record. A nil value makes a record without
// JSON.
func (r *recordFile) formatRecord(key string, value []byte) []byte {
	body := strconv.AppendQuote(nil, key)
	if value != nil {
		body = append(append(body, ' '), value...)
	}
	return slices.Concat(r.checksum(body), []byte(" "), body, []byte("\n"))
}

func (r *recordFile) checksum(body []byte) []byte {
	sum := crc64.Update(r.salt, crcTable, body)
	return hex.AppendEncode(nil, binary.BigEndian.AppendUint64(nil, sum))
}

// parseRecord parses a line that formatRecord returned. It returns false for any
// other line.
func (r *recordFile) parseRecord(line []byte) (key string, value []byte, ok bool) {
	sum, body, _ := bytes.Cut(line, []byte(" "))
	body, ended := bytes.CutSuffix(body, []byte("\n"))
	if !ended || !bytes.Equal(sum, r.checksum(body)) {
		return "", nil, false
	}
	quoted, err := strconv.QuotedPrefix(string(body))
	if err != nil {
		return "", nil, false
	}
	key, err = strconv.Unquote(quoted)
	if err != nil || strconv.Quote(key) != quoted {
		return "", nil, false
	}
	if body = body[len(quoted):]; len(body) == 0 {
		return key, nil, true
	}
	value, ok = bytes.CutPrefix(body, []byte(" "))
	return key, value, ok
}

// scan reads a whole file and calls each for every record. An empty file is
// valid: the process was killed, or the disk was full, before the first write.
func (r *recordFile) scan(content io.Reader, each func(key string, value []byte, at span)) (scanned, error) {
	var found scanned
	for lines := bufio.NewReaderSize(content, 64<<10); ; {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 {
			return found, ignore(io.EOF, err)
		}
		at := span{offset: found.size, length: int64(len(line))}
		found.size += at.length
		if at.offset == 0 && string(line) == r.header {
			continue
		}
		if at.offset == 0 {
			found.first = line
		}
		if key, value, ok := r.parseRecord(line); ok {
			each(key, value, at)
		} else if string(line) != "\n" { // An empty line ends a truncated record.
			found.damaged++
			found.damagedBytes += at.length
		}
	}
}

func readRecord(r io.ReaderAt, at span) ([]byte, error) {
	line := make([]byte, at.length)
	if _, err := r.ReadAt(line, at.offset); err != nil {
		return nil, fmt.Errorf("read record at byte %d: %w", at.offset, err)
	}
	return line, nil
}

// open opens the file, creates it if it is missing, and returns its size.
func (r *recordFile) open() (*os.File, int64, error) {
	root, err := r.storage.directory()
	if err != nil {
		return nil, 0, err
	}
	f, err := root.OpenFile(r.name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// append adds records to f, whose size is given in bytes, with one write. It
// returns their position. A partial write, as on a full disk, is truncated again;
// if that fails too, readers skip the partial record.
func (r *recordFile) append(f *os.File, size int64, records []byte) (span, error) {
	var before []byte
	if size == 0 {
		before = []byte(r.header)
	} else if size != r.completeSize {
		last, err := readRecord(f, span{size - 1, 1})
		if err != nil {
			return span{}, err
		}
		if last[0] != '\n' {
			before = []byte("\n")
		}
	}
	at := span{offset: size + int64(len(before)), length: int64(len(records))}
	if _, err := f.WriteAt(append(before, records...), size); err != nil {
		_ = f.Truncate(size)
		return span{}, err
	}
	r.completeSize = at.offset + at.length
	return at, nil
}

// replace replaces the file atomically by what write writes. The new content is
// synced to disk first. On error the old file is unchanged.
func (r *recordFile) replace(write func(w *bufio.Writer) error) error {
	root, err := r.storage.directory()
	if err != nil {
		return err
	}
	temporary := "." + r.name + "-0"
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	_, _ = w.WriteString(r.header) // Flush returns the error.
	err = errors.Join(write(w), w.Flush(), f.Sync(), f.Close())
	if err == nil {
		err = root.Rename(temporary, r.name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	return nil
}

// openExisting opens the file for reading. It returns [fs.ErrNotExist] for a
// missing file. It sets an unreadable file aside and returns [fs.ErrNotExist],
// too.
func (r *recordFile) openExisting() (*os.File, fs.FileInfo, error) {
	root, err := r.storage.directory()
	if err != nil {
		return nil, nil, err
	}
	info, err := root.Lstat(r.name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, r.setAside(errors.New("not a regular file"))
	}
	if info.Size() > maxFileSize {
		return nil, nil, r.setAside(fmt.Errorf("larger than %d bytes", maxFileSize))
	}
	f, err := root.Open(r.name)
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil, r.setAside(err)
	}
	return f, info, err
}

// setAside renames an unusable file, so that a new one can be created and an
// operator can look at the old one. It returns [fs.ErrNotExist] on success.
func (r *recordFile) setAside(why error) error {
	aside := r.name + ".set-aside-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	root, err := r.storage.directory()
	if err == nil {
		err = root.Rename(r.name, aside)
	}
	if err != nil {
		return fmt.Errorf("set aside %s, which is unusable (%w): %w", r.name, why, err)
	}
	r.logger.Warn("Set aside unusable storage file, ignoring its content", "file", r.name, "renamed", aside, "err", why)
	return fs.ErrNotExist
}

// ignore returns nil if err is the ignored error, else err.
func ignore(ignored, err error) error {
	if errors.Is(err, ignored) {
		return nil
	}
	return err
}
