package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// The times of one API's calls are in a file of fixed size, all of it written
// when the file is made: noting a call needs no space on the disk, and one
// write of 16 bytes, which a process that is killed has done or has not. The
// file begins with a header, padded with zeros; then come slots of
//
//	8 bytes  when the call left, in nanoseconds since 1970, big-endian
//	8 bytes  checksum of the format, the owner, the API and those 8 bytes
//
// that are used in turn. A slot of zeros was never used.
const (
	spentHeader     = "mde_exporter spent 1\n"
	spentHeaderSize = 64
	spentSlotSize   = 16
	// spentSlots is more than the calls that Microsoft documents for an hour.
	spentSlots    = 2048
	spentFileSize = spentHeaderSize + spentSlots*spentSlotSize
)

// spentFor is how long a call is of interest: the hour of the longest limit and
// a minute, for those who keep a guard.
const spentFor = time.Hour + time.Minute

// clockTolerance is how far in the future a call may be: one that waits to
// leave, or one that left before the clock was corrected.
const clockTolerance = time.Minute

// spentCalls are the calls to one API of one owner.
type spentCalls struct {
	dir  directory
	file string
	// salt makes the checksums those of this format, owner and API.
	salt string

	mu sync.Mutex
	// loadedFrom is the directory whose file was read, nil before.
	loadedFrom *os.Root
	// next is the slot to use next.
	next int
	// pending are the calls that are not on the disk yet, oldest first.
	pending []time.Time
}

// times returns the calls of the last hour, oldest first.
func (s *spentCalls) times() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	times, err := s.load(now)
	if err != nil {
		s.dir.logger.Error("Spent calls cannot be read: the quota of the last hour may be spent twice", "file", s.file, "err", err)
	}
	times = append(times, s.pending...)
	notAfter(times, now)
	times = slices.DeleteFunc(times, func(t time.Time) bool { return now.Sub(t) >= spentFor })
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// add keeps calls.
func (s *spentCalls) add(calls ...time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range calls {
		s.pending = append(s.pending, at.Round(0))
	}
	s.pending = s.pending[max(0, len(s.pending)-spentSlots):]
	s.dir.storage.health.wrote(spentCallsKind, s.file, s.writePending())
}

// writePending writes the calls that are in memory only into the next slots.
func (s *spentCalls) writePending() error {
	root, err := s.dir.root()
	if err != nil {
		return err
	}
	if s.loadedFrom != root {
		if _, err := s.load(time.Now()); err != nil {
			return err
		}
	}
	f, err := s.openForWrite()
	if err != nil {
		return err
	}
	defer f.Close()
	for len(s.pending) > 0 {
		offset := int64(spentHeaderSize + s.next*spentSlotSize)
		if _, err := f.WriteAt(s.slot(s.pending[0]), offset); err != nil {
			return err
		}
		s.next = (s.next + 1) % spentSlots
		s.pending = s.pending[1:]
	}
	s.pending = nil
	return nil
}

// openForWrite opens the file, which is made where there is none.
func (s *spentCalls) openForWrite() (*os.File, error) {
	f, err := s.dir.openFile(s.file, os.O_WRONLY)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.create(nil); err != nil {
			return nil, err
		}
		f, err = s.dir.openFile(s.file, os.O_WRONLY)
	}
	return f, err
}

// create writes a whole new file, or leaves the one that is there as it was.
func (s *spentCalls) create(times []time.Time) error {
	content := make([]byte, spentFileSize)
	copy(content, spentHeader)
	for i, t := range times {
		copy(content[spentHeaderSize+i*spentSlotSize:], s.slot(t))
	}
	err := s.dir.replace(s.file, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	s.next = len(times) % spentSlots
	return nil
}

// load reads the file, mends it where it must be mended, finds the slot to use
// next, and returns the times of all calls in it, none of them later than now.
func (s *spentCalls) load(now time.Time) ([]time.Time, error) {
	root, err := s.dir.root()
	if err != nil {
		return nil, err
	}
	f, info, err := s.dir.openExisting(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		s.loadedFrom, s.next = root, 0
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, spentFileSize+1))
	if err != nil {
		return nil, err
	}
	found := s.parse(content)
	if !found.ours {
		s.loadedFrom, s.next = root, 0
		return nil, s.dir.setAside(s.file, errors.New("not a file of this owner's spent calls, or of a newer version"))
	}

	times, faults := found.times, found.faults
	// A call whose time is lost left before the file was last written.
	for range found.damaged {
		times = append(times, info.ModTime())
	}
	if n := notAfter(times, now); n > 0 {
		faults = append(faults, fmt.Sprintf("%d calls in the future", n))
	}
	s.loadedFrom, s.next = root, found.next
	if len(faults) == 0 && found.ordered {
		slices.SortFunc(times, time.Time.Compare)
		return times, nil
	}
	if len(faults) > 0 {
		s.dir.logger.Warn("Spent calls are mended: one whose time is lost or in the future counts as late as it can have left",
			"file", s.file, "faults", strings.Join(faults, ", "))
	}
	slices.SortFunc(times, time.Time.Compare)
	if err := s.create(times); err != nil {
		s.dir.logger.Warn("Mended spent calls cannot be written", "file", s.file, "err", err)
	}
	return times, nil
}

// notAfter moves what is in the future to now, since no call left later,
// whatever the clock said then. It returns how many times it moved.
func notAfter(times []time.Time, now time.Time) (moved int) {
	for i, t := range times {
		if t.Sub(now) > clockTolerance {
			times[i] = now
			moved++
		}
	}
	return moved
}

// spentContent is what was found in a file of spent calls.
type spentContent struct {
	ours  bool
	times []time.Time
	// damaged counts the slots that hold a call whose time is lost.
	damaged int
	// next is the slot to use next.
	next int
	// ordered tells that from there on times only grow.
	ordered bool
	// faults tell an operator what is damaged.
	faults []string
}

func (s *spentCalls) parse(content []byte) spentContent {
	var found spentContent
	header := make([]byte, spentHeaderSize)
	copy(header, spentHeader)
	found.ours = bytes.HasPrefix(content, header)
	if !found.ours {
		found.faults = append(found.faults, "damaged header")
	}
	if len(content) != spentFileSize {
		found.faults = append(found.faults, "wrong size")
	}

	stamps := make([]int64, spentSlots) // 0 where there is no call, or a lost one
	empty := make([]byte, spentSlotSize)
	for i := range stamps {
		from := spentHeaderSize + i*spentSlotSize
		if len(content) < from+spentSlotSize {
			break
		}
		slot := content[from : from+spentSlotSize]
		if bytes.Equal(slot, empty) {
			continue
		}
		t := time.Unix(0, int64(binary.BigEndian.Uint64(slot)))
		if !bytes.Equal(slot, s.slot(t)) {
			found.damaged++
			continue
		}
		found.ours = true // Only this owner's file has a slot with such a checksum.
		stamps[i] = t.UnixNano()
		found.times = append(found.times, t)
	}

	if found.damaged > 0 {
		found.faults = append(found.faults, fmt.Sprintf("%d damaged slots", found.damaged))
	}

	// Slots are used in turn, so the next one is an unused one or the oldest.
	found.next = slices.Index(stamps, slices.Min(stamps))
	found.ordered = slices.IsSorted(slices.Concat(stamps[found.next:], stamps[:found.next]))
	return found
}

// slot returns the bytes that stand for a call.
func (s *spentCalls) slot(at time.Time) []byte {
	slot := binary.BigEndian.AppendUint64(make([]byte, 0, spentSlotSize), uint64(at.UnixNano()))
	sum := crc64.Update(crc64.Checksum([]byte(s.salt), crcTable), crcTable, slot)
	return binary.BigEndian.AppendUint64(slot, sum)
}
