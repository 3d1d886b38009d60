package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// A Ledger keeps the calls that were spent of one quota, for each API. Its
// methods may be called concurrently. It never holds a file open between two
// calls, so that hundreds of quotas cost no file descriptors.
type Ledger struct {
	owner string
	dir   directory

	mu    sync.Mutex
	spent map[client.API]*spentCalls
}

var _ client.Ledger = (*Ledger)(nil)

// Ledger returns the part of the storage that belongs to one quota, always the
// same for the same owner. Any text names an owner.
func (s *Storage) Ledger(owner string) *Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.ledgers[owner]
	if !ok {
		l = s.newLedger(owner)
		s.ledgers[owner] = l
	}
	return l
}

func (s *Storage) newLedger(owner string) *Ledger {
	return &Ledger{
		owner: owner,
		dir:   directory{storage: s, logger: s.logger.With("quota", owner)},
		spent: make(map[client.API]*spentCalls),
	}
}

// Spent implements [client.Ledger].
func (l *Ledger) Spent(api client.API) []time.Time {
	return l.on(api).times()
}

// Spend implements [client.Ledger]. While the disk refuses to be written the
// call is kept in memory, which the log says once, and written with the next.
func (l *Ledger) Spend(api client.API, at time.Time) {
	l.on(api).add(at)
}

func (l *Ledger) on(api client.API) *spentCalls {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.spent[api]
	if !ok {
		s = &spentCalls{
			dir:  l.dir,
			file: fileName(l.owner) + ".spent-" + string(api),
			salt: fmt.Sprintf("%s\x00%s\x00%s", spentHeader, l.owner, api),
		}
		l.spent[api] = s
	}
	return s
}

// Inherit adds the calls to one API that stand under the name of another owner,
// and removes that one's file: earlier versions counted by the name of the tenant.
func (l *Ledger) Inherit(api client.API, owner string) {
	former := &Ledger{owner: owner, dir: l.dir, spent: make(map[client.API]*spentCalls)}
	spent := former.on(api)
	root, err := l.dir.root()
	if err != nil {
		return
	}
	if _, err := root.Lstat(spent.file); errors.Is(err, fs.ErrNotExist) {
		return
	}
	l.on(api).add(spent.times()...)
	if err := root.Remove(spent.file); err != nil {
		l.dir.logger.Warn("Spent calls of an earlier version cannot be removed and count again after a restart", "file", spent.file, "err", err)
	}
}
