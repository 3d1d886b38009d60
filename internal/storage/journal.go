package storage

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A journal is a text file. Its first line names the format, the version and
// the tenant; every other line is a record:
//
//	CHECKSUM "KEY" JSON
//
// The last record of a key holds; one without JSON says that the key was
// deleted. A line whose checksum does not fit is skipped.
const journalFormat = "mde_exporter values "

const journalVersion = 1

// longestRecord bounds what a reader takes into memory of a garbled file.
const longestRecord = 256 << 20

// leastJournal is the size below which a journal is never compacted.
const leastJournal = 64 << 10

// crcTable is for checksums that find any burst of wrong bits up to 64 long.
var crcTable = crc64.MakeTable(crc64.ECMA)

// journal keeps values under keys, in one file to which records are appended.
// Where they are is in memory, the values are not.
type journal struct {
	dir    directory
	file   string
	tenant string

	mu sync.Mutex
	// loadedFrom is the directory whose file was read, nil before and where the
	// file has to be read again.
	loadedFrom *os.Root
	contents
	// compactAt is the size past which the journal is written anew.
	compactAt int64
}

// contents is what is known of a journal's file.
type contents struct {
	// records tells where each key's last record is.
	records map[string]span
	// size is that of the file when this process last read or wrote it.
	size int64
	// live is the size of all records that hold.
	live int64
	// torn tells that the file does not end with the end of a line.
	torn bool
	// damaged counts the lines that are no records; the first is at damagedAt.
	damaged, damagedAt int64
}

// span is the place of one record, its end of line included.
type span struct {
	offset, length int64
}

// journalVersionLine is how the header of this version begins.
var journalVersionLine = journalFormat + strconv.Itoa(journalVersion) + " "

func journalHeader(tenant string) string {
	return journalVersionLine + strconv.Quote(tenant) + "\n"
}

// get returns the value of the key. It checks the record again, since years may
// lie between two reads.
func (j *journal) get(key string) ([]byte, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.load(); err != nil {
		return nil, false, err
	}
	at, ok := j.records[key]
	if !ok {
		return nil, false, nil
	}
	f, err := j.dir.openFile(j.file, os.O_RDONLY)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	line, err := readRecord(f, at)
	if err != nil {
		return nil, false, err
	}
	if got, value, ok := parseRecord(line); ok && got == key {
		return value, true, nil
	}
	return nil, false, fmt.Errorf("record at byte %d of %s has changed since it was written", at.offset, j.file)
}

func (j *journal) keys(prefix string) ([]string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.load(); err != nil {
		return nil, err
	}
	var keys []string
	for key := range j.records {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

func (j *journal) put(key string, value []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.load(); err != nil {
		return j.wrote(err)
	}
	at, err := j.append(formatRecord(key, value))
	if j.wrote(err) != nil {
		return err
	}
	j.hold(key, at)
	j.compactIfWorthwhile()
	return nil
}

func (j *journal) delete(key string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.load(); err != nil {
		return j.wrote(err)
	}
	if _, ok := j.records[key]; !ok {
		return nil
	}
	_, err := j.append(formatRecord(key, nil))
	if j.wrote(err) != nil {
		return err
	}
	j.forget(key)
	j.compactIfWorthwhile()
	return nil
}

// wrote reports the result of a write to the health of the storage, and returns it.
func (j *journal) wrote(err error) error {
	j.dir.storage.health.wrote(lastValues, j.file, err)
	return err
}

// append writes one record at the end of the file, or leaves the file as it was.
func (j *journal) append(record []byte) (span, error) {
	f, err := j.openForAppend()
	if err != nil {
		return span{}, err
	}
	defer f.Close()
	var before string
	switch {
	case j.size == 0:
		before = journalHeader(j.tenant)
	case j.torn:
		before = "\n"
	}
	n, err := f.Write(append([]byte(before), record...))
	if err != nil {
		j.undo(f, int64(n))
		return span{}, err
	}
	at := span{offset: j.size + int64(len(before)), length: int64(len(record))}
	j.size += int64(n)
	j.torn = false
	return at, nil
}

// openForAppend opens the file and makes sure that it is as this process left
// it: where someone has changed it, or taken it away, it is read again.
func (j *journal) openForAppend() (*os.File, error) {
	for again := false; ; again = true {
		f, err := j.dir.openFile(j.file, os.O_WRONLY|os.O_APPEND|os.O_CREATE)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if info.Size() == j.size {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		if again {
			return nil, fmt.Errorf("%s is being written by someone else", j.file)
		}
		j.dir.logger.Warn("Storage file was changed by someone else and is read again", "file", j.file)
		j.loadedFrom = nil
		if err := j.load(); err != nil {
			return nil, err
		}
	}
}

// undo takes back a write that did not reach its end, as on a full disk. Where
// even that fails the remains stand in the file as a record that nobody reads.
func (j *journal) undo(f *os.File, written int64) {
	if written == 0 {
		return
	}
	if err := f.Truncate(j.size); err != nil {
		j.size += written
		j.torn = true
	}
}

// load reads the file, unless that has been done.
func (j *journal) load() error {
	root, err := j.dir.root()
	if err != nil {
		return err
	}
	if j.loadedFrom == root {
		return nil
	}
	found, err := j.scanFile()
	if foreign, ok := errors.AsType[foreignError](err); ok {
		err = j.dir.setAside(j.file, foreign)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if found.damaged > 0 {
		j.dir.logger.Warn("Storage file has damaged records, which are set aside: the values saved before them hold",
			"file", j.file, "records", found.damaged, "first_offset", found.damagedAt)
	}
	j.loadedFrom, j.contents, j.compactAt = root, found, leastJournal+2*found.live
	return nil
}

func (j *journal) scanFile() (contents, error) {
	nothing := contents{records: make(map[string]span)}
	f, _, err := j.dir.openExisting(j.file)
	if err != nil {
		return nothing, err
	}
	defer f.Close()
	found, err := scan(f, j.tenant)
	if err != nil {
		return nothing, err
	}
	return found, nil
}

// scan reads a whole journal. A file without a byte is a journal without a
// record: a process was killed, or the disk was full, before the first.
func scan(r io.Reader, tenant string) (contents, error) {
	found := contents{records: make(map[string]span)}
	lines := bufio.NewReaderSize(r, 64<<10)
	line, length, err := readLine(lines, nil)
	if err != nil && !errors.Is(err, io.EOF) {
		return found, err
	}
	if length > 0 && string(line) != journalHeader(tenant) {
		return found, headerMismatch(line)
	}
	found.size = length
	for {
		line, length, err = readLine(lines, line[:0])
		if err != nil && !errors.Is(err, io.EOF) {
			return found, err
		}
		if length == 0 {
			return found, nil
		}
		found.add(line, span{offset: found.size, length: length})
		found.torn = errors.Is(err, io.EOF)
	}
}

func (c *contents) add(line []byte, at span) {
	c.size += at.length
	key, value, ok := parseRecord(line)
	switch {
	case string(line) == "\n":
		// What follows a torn record, so that the next one has its own line.
	case !ok:
		if c.damaged == 0 {
			c.damagedAt = at.offset
		}
		c.damaged++
	case value == nil:
		c.forget(key)
	default:
		c.hold(key, at)
	}
}

// hold notes that the record is the last of its key.
func (c *contents) hold(key string, at span) {
	c.live += at.length - c.records[key].length
	c.records[key] = at
}

// forget notes that the key has no value any more.
func (c *contents) forget(key string) {
	c.live -= c.records[key].length
	delete(c.records, key)
}

// foreignError tells an operator what a file is that is not a journal of the
// tenant.
type foreignError string

func (e foreignError) Error() string { return string(e) }

func headerMismatch(first []byte) error {
	rest, ok := strings.CutPrefix(string(first), journalFormat)
	if !ok {
		return foreignError("not a file of mde_exporter's")
	}
	version, _, _ := strings.Cut(rest, " ")
	if n, err := strconv.Atoi(version); err == nil && n > journalVersion {
		return foreignError(fmt.Sprintf("format version %d is newer than this program's %d", n, journalVersion))
	}
	return foreignError("its first line is damaged or names another tenant")
}

// compactIfWorthwhile writes the journal anew without what no longer holds,
// when that is most of it. A failure costs nothing but space.
func (j *journal) compactIfWorthwhile() {
	if j.size <= j.compactAt {
		return
	}
	if err := j.compact(); err != nil {
		j.dir.logger.Warn("Storage file cannot be compacted and grows until it can", "file", j.file, "bytes", j.size, "err", err)
		j.compactAt = j.size + j.live + leastJournal
		return
	}
	j.compactAt = leastJournal + 2*j.live
}

func (j *journal) compact() error {
	old, err := j.dir.openFile(j.file, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer old.Close()
	keys := slices.SortedFunc(maps.Keys(j.records), func(a, b string) int {
		return int(j.records[a].offset - j.records[b].offset)
	})
	header := journalHeader(j.tenant)
	compacted := contents{records: make(map[string]span, len(keys)), size: int64(len(header))}
	err = j.dir.replace(j.file, func(w io.Writer) error {
		buffered := bufio.NewWriterSize(w, 64<<10)
		if _, err := buffered.WriteString(header); err != nil {
			return err
		}
		for _, key := range keys {
			line, err := readRecord(old, j.records[key])
			if err != nil {
				return err
			}
			if got, _, ok := parseRecord(line); !ok || got != key {
				j.dir.logger.Warn("Storage file has a damaged record, which is set aside", "file", j.file, "key", key)
				continue
			}
			if _, err := buffered.Write(line); err != nil {
				return err
			}
			compacted.add(line, span{offset: compacted.size, length: int64(len(line))})
		}
		return buffered.Flush()
	})
	if err != nil {
		return err
	}
	j.contents = compacted
	return nil
}

// formatRecord writes one line. A nil value means that the key was deleted.
func formatRecord(key string, value []byte) []byte {
	body := strconv.AppendQuote(nil, key)
	if value != nil {
		body = append(body, ' ')
		body = append(body, value...)
	}
	line := fmt.Appendf(make([]byte, 0, len(body)+18), "%016x ", crc64.Checksum(body, crcTable))
	return append(append(line, body...), '\n')
}

// parseRecord reads a line that formatRecord wrote, and nothing else: ok is
// false for a line that differs from it in any way.
func parseRecord(line []byte) (key string, value []byte, ok bool) {
	if len(line) < len("0123456789abcdef \"\"\n") || line[16] != ' ' || line[len(line)-1] != '\n' {
		return "", nil, false
	}
	body := line[17 : len(line)-1]
	if fmt.Sprintf("%016x", crc64.Checksum(body, crcTable)) != string(line[:16]) {
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
	rest := body[len(quoted):]
	if len(rest) == 0 {
		return key, nil, true
	}
	value, ok = bytes.CutPrefix(rest, []byte(" "))
	return key, value, ok
}

func readRecord(r io.ReaderAt, at span) ([]byte, error) {
	line := make([]byte, at.length)
	if _, err := r.ReadAt(line, at.offset); err != nil {
		return nil, fmt.Errorf("read record at byte %d: %w", at.offset, err)
	}
	return line, nil
}

// readLine reads to the end of the line and returns its length, its end
// included. It appends the line to buf, of which it keeps no more than
// longestRecord. The error is [io.EOF] where the file ends before the line does.
func readLine(r *bufio.Reader, buf []byte) (line []byte, length int64, err error) {
	for {
		part, err := r.ReadSlice('\n')
		length += int64(len(part))
		if len(buf)+len(part) <= longestRecord {
			buf = append(buf, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return buf, length, err
		}
	}
}
