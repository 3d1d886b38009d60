package storage

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

const (
	spentFormat   = "mde_exporter spent "
	spentVersion1 = spentFormat + "1\n"
	// earlierSuffix ends the name of the older file. Its calls were made before
	// those of the file without the suffix.
	earlierSuffix = "-earlier"
	// spentTime is the time layout of a call. Its length is fixed.
	spentTime = `"2006-01-02T15:04:05.000000000Z"`
)

// spentRetention is how long calls are kept: the longest limit of one hour plus a
// minute for callers with a safety margin.
const spentRetention = time.Hour + time.Minute

// clockTolerance is how far in the future a call's time may be: the call may
// still wait for the quota, or the clock may have been corrected since.
const clockTolerance = time.Minute

// A Ledger stores the spent calls of one quota. Each call is a record whose key
// is the API and whose value is the time. The checksums cover the header, so a
// record is valid only for its owner, even in a file with a damaged header.
//
// Calls are appended to one file until all calls of the earlier file have
// expired. Then the file becomes the earlier one, so a call never waits for a
// rewrite. Files are closed between calls: hundreds of quotas need no file
// descriptors. Methods are safe for concurrent use.
type Ledger struct {
	recordFile
	owner string

	mu sync.Mutex
	// loadedFrom is the directory whose files were read. Nil before the first
	// read.
	loadedFrom *os.Root
	// rotated is a time after which no call of the earlier file was made.
	rotated time.Time
	// restored are the calls read from the files. Nil once a call is added.
	restored []spentCall
	// pending are the calls that are not yet on disk.
	pending []spentCall
}

var _ client.Ledger = (*Ledger)(nil)

// spentCall is one call. A damaged record has an empty API and counts for every
// API.
type spentCall struct {
	api client.API
	at  time.Time
}

// Ledger returns the ledger of one quota. It returns the same one for the same
// owner, which may be any text.
func (s *Storage) Ledger(owner string) *Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.ledgers[owner]
	if !ok {
		header := spentFormat + "2 " + strconv.Quote(owner) + "\n"
		l = &Ledger{owner: owner, recordFile: recordFile{
			storage: s, logger: s.logger.With("quota", owner), name: fileName(owner) + ".spent",
			header: header, salt: crc64.Checksum([]byte(header), crcTable),
		}}
		s.ledgers[owner] = l
	}
	return l
}

// Spent implements [client.Ledger].
func (l *Ledger) Spent(api client.API) []time.Time {
	l.Inherit(api, l.owner)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if err := l.load(now); err != nil {
		l.logger.Error("Reading spent calls failed, the quota of the last hour may be spent twice", "file", l.name, "err", err)
	}
	calls := slices.Concat(l.restored, l.pending)
	clampToNow(calls, now)
	var times []time.Time
	for _, call := range unexpired(calls, now) {
		if call.api == api || call.api == "" {
			times = append(times, call.at)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// Spend implements [client.Ledger]. If writing fails, it logs the failure, keeps
// the call in memory and writes it with the next call.
func (l *Ledger) Spend(api client.API, at time.Time) { l.add(spentCall{api, at.Round(0)}) }

// Inherit adds the calls to one API that version 0.1 stored under this name, a
// tenant or an owner, and removes their file.
func (l *Ledger) Inherit(api client.API, owner string) {
	l.mu.Lock()
	file := l.recordFile
	l.mu.Unlock()
	file.name = fileName(owner) + ".spent-" + string(api)
	content, modified, err := file.readAll()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	calls, ours := parseVersion1(content, modified, owner, api)
	if err == nil && !ours {
		err = file.setAside(errors.New("not a file of this owner's spent calls"))
	}
	var root *os.Root
	if err == nil {
		l.add(calls...)
		root, err = l.storage.directory()
	}
	if err == nil {
		err = root.Remove(file.name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.logger.Error("Reading or removing spent calls of an earlier version failed", "file", file.name, "err", err)
	}
}

// parseVersion1 reads the binary format of version 0.1: a header of 64 bytes,
// then slots of 8 bytes for the time in nanoseconds since 1970 and 8 bytes for a
// checksum. Unused slots are zero. A call whose time is damaged gets the file's
// modification time. ours is false if the file belongs to another owner.
func parseVersion1(content []byte, modified time.Time, owner string, api client.API) (calls []spentCall, ours bool) {
	const headerSize, slotSize = 64, 16
	ours = bytes.HasPrefix(content, []byte(spentVersion1))
	salt := crc64.Checksum([]byte(spentVersion1+"\x00"+owner+"\x00"+string(api)), crcTable)
	for from := headerSize; from+slotSize <= len(content); from += slotSize {
		at, sum := content[from:from+8], binary.BigEndian.Uint64(content[from+8:])
		if nanoseconds := binary.BigEndian.Uint64(at); sum == crc64.Update(salt, crcTable, at) {
			ours = true // Only this owner's file has a slot with such a checksum.
			calls = append(calls, spentCall{api, time.Unix(0, int64(nanoseconds))})
		} else if nanoseconds != 0 || sum != 0 {
			calls = append(calls, spentCall{api, modified})
		}
	}
	return calls, ours
}

// add stores calls.
func (l *Ledger) add(calls ...spentCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.pending = append(unexpired(l.pending, now), calls...)
	_ = l.storage.calls.record(l.name, l.writePending(now)) // record logs the error.
}

// writePending appends the pending calls to the file.
func (l *Ledger) writePending(now time.Time) error {
	root, err := l.storage.directory()
	if err != nil {
		return err
	}
	if l.loadedFrom != root {
		if err := l.load(now); err != nil {
			return err
		}
	}
	if now.Sub(l.rotated) >= spentRetention {
		l.rotated = now.Add(clockTolerance)
		if err := root.Rename(l.name, l.name+earlierSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.logger.Warn("Renaming storage file of spent calls failed, the file grows until renaming succeeds", "file", l.name, "err", err)
		}
	}
	f, size, err := l.open()
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := l.append(f, size, l.format(l.pending)); err != nil {
		return err
	}
	l.restored, l.pending = nil, nil
	return nil
}

func (l *Ledger) format(calls []spentCall) []byte {
	var records []byte
	for _, call := range calls {
		records = append(records, l.formatRecord(string(call.api), []byte(call.at.UTC().Format(spentTime)))...)
	}
	return records
}

// load reads the files, unless they were read and no call was added since.
func (l *Ledger) load(now time.Time) error {
	root, err := l.storage.directory()
	if err != nil || l.loadedFrom == root && l.restored != nil {
		return err
	}
	file := l.recordFile
	file.name += earlierSuffix
	earlier, err := l.read(file, now)
	if err != nil {
		return err
	}
	calls, err := l.read(l.recordFile, now)
	if err != nil {
		return err
	}
	l.loadedFrom, l.rotated, l.restored = root, now, slices.Concat(earlier, calls)
	if len(earlier) > 0 {
		l.rotated = earlier[len(earlier)-1].at
	} else if len(calls) > 0 {
		l.rotated = calls[0].at
	}
	return nil
}

// read returns the calls in one of the files, oldest first. A call whose time is
// damaged or in the future gets the latest possible time. In that case read also
// rewrites the file.
func (l *Ledger) read(file recordFile, now time.Time) ([]spentCall, error) {
	content, modified, err := file.readAll()
	if err != nil {
		return nil, ignore(fs.ErrNotExist, err)
	}
	var calls []spentCall
	found, err := l.scan(bytes.NewReader(content), func(key string, value []byte, _ span) {
		if at, err := time.Parse(spentTime, string(value)); err == nil {
			calls = append(calls, spentCall{client.API(key), at})
		}
	})
	if err != nil {
		return nil, err
	}
	damaged := found.damagedBytes
	if found.first != nil {
		if len(calls) == 0 {
			return nil, ignore(fs.ErrNotExist, file.setAside(errors.New("not a file of this owner's spent calls, or from a newer version")))
		}
		damaged -= int64(len(l.header))
	}
	// The number of lines is no measure: a damaged line end joins two lines,
	// other damage splits one. A part shorter than a record belongs to a call
	// that was not made.
	for shortest := int64(len(l.format([]spentCall{{}}))); damaged >= shortest; damaged -= shortest {
		calls = append(calls, spentCall{at: modified})
	}
	future := clampToNow(calls, now)
	slices.SortFunc(calls, func(a, b spentCall) int { return a.at.Compare(b.at) })
	if found.first == nil && found.damaged == 0 && future == 0 {
		return calls, nil
	}
	l.logger.Warn("Repaired spent calls, using the latest possible time where the time was invalid",
		"file", file.name, "faults", fmt.Sprintf("%d damaged records, %d calls in the future", found.damaged, future))
	err = file.replace(func(w *bufio.Writer) error {
		_, err := w.Write(l.format(calls))
		return err
	})
	if err != nil {
		l.logger.Warn("Writing repaired spent calls failed", "file", file.name, "err", err)
	}
	return calls, nil
}

// readAll returns the content of the file and its modification time.
func (r *recordFile) readAll() ([]byte, time.Time, error) {
	f, info, err := r.openExisting()
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	return content, info.ModTime(), err
}

// unexpired removes the calls that no limit counts any more.
func unexpired(calls []spentCall, now time.Time) []spentCall {
	return slices.DeleteFunc(calls, func(call spentCall) bool { return now.Sub(call.at) >= spentRetention })
}

// clampToNow sets times in the future to now and returns the number of changed
// calls. No call can have been made later, so the clock was wrong.
func clampToNow(calls []spentCall, now time.Time) (moved int) {
	for i, call := range calls {
		if call.at.Sub(now) > clockTolerance {
			calls[i].at = now
			moved++
		}
	}
	return moved
}
