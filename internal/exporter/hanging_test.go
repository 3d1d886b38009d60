package exporter

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

// hangingStore is a Store whose calls block while hang is set.
type hangingStore struct {
	collector.Store
	hung chan struct{}                 // Receives an element when a call blocks.
	hang atomic.Pointer[chan struct{}] // Calls block until this channel is closed. Nil: they do not block.
}

func (s *hangingStore) wait() {
	if hang := s.hang.Load(); hang != nil {
		select {
		case s.hung <- struct{}{}:
		default:
		}
		<-*hang
	}
}

func (s *hangingStore) Load(key string, v any) (bool, error) { s.wait(); return s.Store.Load(key, v) }
func (s *hangingStore) Save(key string, v any) error         { s.wait(); return s.Store.Save(key, v) }
func (s *hangingStore) Delete(key string) error              { s.wait(); return s.Store.Delete(key) }
func (s *hangingStore) Keys(prefix string) ([]string, error) { s.wait(); return s.Store.Keys(prefix) }

// TestHangingStorageDoesNotBlockScrapes blocks the storage while a watch list
// changes, and while a reload waits for it.
func TestHangingStorageDoesNotBlockScrapes(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list.txt")
	write := func(content string) {
		if err := os.WriteFile(list, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old.example\n")
	e := newQuotaExporter(t, newService(), nil)
	defer e.Close()
	store := &hangingStore{Store: &collector.MemoryStore{}, hung: make(chan struct{}, 1)}
	e.stores["contoso"] = store
	tenant := func(perMinute int) string {
		return strings.Replace(entry("contoso", "tid", "app", perMinute, 0), "domains: []", fmt.Sprintf("files: [%q]", list), 1)
	}
	e.reload(tenant(100))
	e.awaitReady()

	checkResponsive := func(when string) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = e.Gatherer().Gather()
			e.Status()
			e.Config()
			e.Ready()
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Errorf("scrape, page or readiness blocked %s", when)
		}
	}
	hang := make(chan struct{})
	store.hang.Store(&hang)
	write("new.example\n")
	e.write(tenant(100))
	reloaded := make(chan error)
	go func() { reloaded <- e.Reload() }()
	<-store.hung
	checkResponsive("while a watch list changes")
	e.write(tenant(90))
	again := make(chan error)
	go func() { again <- e.Reload() }()
	checkResponsive("while a reload waits")
	store.hang.Store(nil)
	close(hang)
	for _, ended := range []chan error{reloaded, again} {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
