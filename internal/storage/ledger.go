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
	// earlierSuffix ends the name of the file whose calls left before those of the
	// file without it.
	earlierSuffix = "-earlier"
	// spentTime is how the time of a call is written, always in the same length.
	spentTime = `"2006-01-02T15:04:05.000000000Z"`
)

// spentFor is how long a call is of interest: the hour of the longest limit and
// a minute, for those who keep a guard.
const spentFor = time.Hour + time.Minute

// clockTolerance is how far in the future a call may be: one that waits to
// leave, or one that left before the clock was corrected.
const clockTolerance = time.Minute

// A Ledger keeps the calls that were spent of one quota. Each is a record whose
// key is the API and whose value is the time. Checksums cover the header, so that
// a record proves whose it is even where the header is damaged.
//
// Calls are appended to one file until those of the earlier file are of no
// interest. Then it becomes the earlier one, and a call never waits for a file to
// be written anew. No file is held open between two calls, so that hundreds of
// quotas cost no file descriptors. Methods may be called concurrently.
type Ledger struct {
	recordFile
	owner string

	mu sync.Mutex
	// loadedFrom is the directory whose files were read, nil before.
	loadedFrom *os.Root
	// rotated is a time after which no call of the earlier file left.
	rotated time.Time
	// restored are the calls that were read, until one is added.
	restored []spentCall
	// pending are the calls that are not on the disk yet.
	pending []spentCall
}

var _ client.Ledger = (*Ledger)(nil)

// spentCall is one call. One whose record was damaged has no API: it may have been
// to any of them.
type spentCall struct {
	api client.API
	at  time.Time
}

// Ledger returns the part of the storage that belongs to one quota, always the
// same for the same owner. Any text names an owner.
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
	notAfter(calls, now)
	var times []time.Time
	for _, call := range ofInterest(calls, now) {
		if call.api == api || call.api == "" {
			times = append(times, call.at)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// Spend implements [client.Ledger]. While the disk refuses to be written the
// call is kept in memory, which the log says once, and written with the next.
func (l *Ledger) Spend(api client.API, at time.Time) { l.add(spentCall{api, at.Round(0)}) }

// Inherit adds the calls to one API that an earlier version stored under the name
// of an owner, this one or a tenant, and removes their file.
func (l *Ledger) Inherit(api client.API, owner string) {
	file := l.recordFile
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

// parseVersion1 reads the binary format of earlier versions: a header of 64 bytes,
// then slots of 8 bytes for the time in nanoseconds since 1970 and 8 bytes for a
// checksum, zero where they were never used. A call whose time is lost left before
// the file was last written.
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

// add keeps calls.
func (l *Ledger) add(calls ...spentCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.pending = append(ofInterest(l.pending, now), calls...)
	_ = l.storage.calls.wrote(l.name, l.writePending(now)) // It logs the error.
}

// writePending appends the calls that are in memory only.
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
	if now.Sub(l.rotated) >= spentFor {
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

// load reads the files, unless that has been done and no call was added since.
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
// lost or in the future counts as late as it can have left, and the file is then
// written anew.
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
			return nil, ignore(fs.ErrNotExist, file.setAside(errors.New("not a file of this owner's spent calls, or of a newer version")))
		}
		damaged -= int64(len(l.header))
	}
	// Lines are no measure: a damaged end of line joins two, another one splits one.
	// What is shorter than a record is of a call that did not leave.
	for shortest := int64(len(l.format([]spentCall{{}}))); damaged >= shortest; damaged -= shortest {
		calls = append(calls, spentCall{at: modified})
	}
	future := notAfter(calls, now)
	slices.SortFunc(calls, func(a, b spentCall) int { return a.at.Compare(b.at) })
	if found.first == nil && found.damaged == 0 && future == 0 {
		return calls, nil
	}
	l.logger.Warn("Repaired spent calls, counting those without a valid time at the latest possible one",
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

// readAll returns the content of the file and when it was last written.
func (r *recordFile) readAll() ([]byte, time.Time, error) {
	f, info, err := r.openExisting()
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	return content, info.ModTime(), err
}

// ofInterest returns the calls without those that no limit reaches any more.
func ofInterest(calls []spentCall, now time.Time) []spentCall {
	return slices.DeleteFunc(calls, func(call spentCall) bool { return now.Sub(call.at) >= spentFor })
}

// notAfter moves what is in the future to now, since no call left later,
// whatever the clock said then. It returns how many calls it moved.
func notAfter(calls []spentCall, now time.Time) (moved int) {
	for i, call := range calls {
		if call.at.Sub(now) > clockTolerance {
			calls[i].at = now
			moved++
		}
	}
	return moved
}
