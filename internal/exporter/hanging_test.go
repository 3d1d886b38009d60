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

// hangingStore is a Store on a file system that hangs when the test wants it.
type hangingStore struct {
	collector.Store
	hung chan struct{}                 // Gets an element when somebody waits.
	hang atomic.Pointer[chan struct{}] // Nil unless it hangs.
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

// TestAStorageThatHangsHoldsUpNoScrape hangs the storage while a watch list
// changes, and while a reload waits for what hangs.
func TestAStorageThatHangsHoldsUpNoScrape(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list.txt")
	write := func(content string) {
		if err := os.WriteFile(list, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old.example\n")
	w := newQuotaWorld(t, newService(), nil)
	defer w.Close()
	store := &hangingStore{Store: &collector.MemoryStore{}, hung: make(chan struct{}, 1)}
	w.stores["contoso"] = store
	tenant := func(perMinute int) string {
		return strings.Replace(entry("contoso", "tid", "app", perMinute, 0), "domains: []", fmt.Sprintf("files: [%q]", list), 1)
	}
	w.reload(tenant(100))
	w.awaitReady()

	answers := func(when string) {
		t.Helper()
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			_, _ = w.Gatherer().Gather()
			w.Status()
			w.Config()
			w.Ready()
		}()
		select {
		case <-answered:
		case <-time.After(10 * time.Second):
			t.Errorf("nothing is answered %s", when)
		}
	}
	hang := make(chan struct{})
	store.hang.Store(&hang)
	write("new.example\n")
	w.write(tenant(100))
	reloaded := make(chan error)
	go func() { reloaded <- w.Reload() }()
	<-store.hung
	answers("while a watch list changes")
	w.write(tenant(90))
	again := make(chan error)
	go func() { again <- w.Reload() }()
	answers("while a reload waits")
	store.hang.Store(nil)
	close(hang)
	for _, ended := range []chan error{reloaded, again} {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
