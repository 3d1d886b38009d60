package exporter

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
	"github.com/mde-exporter/mde_exporter/internal/storage"
)

// TestStoredValuesOfAnotherEntraTenantAreDropped changes the tenant id of a
// tenant that keeps its name, by a reload and by a restart.
func TestStoredValuesOfAnotherEntraTenantAreDropped(t *testing.T) {
	open := func(dir string) *storage.Storage {
		s, err := storage.Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, how := range []string{"a reload", "a reload with storage", "a restart"} {
		t.Run(how, func(t *testing.T) {
			first := newSimulatedTenant(t, simulation.Options{Machines: 30})
			first.Contact("evil.example", 3)
			second := newSimulatedTenant(t, simulation.Options{Machines: 40, TenantID: "22222222-2222-2222-2222-222222222222"})
			second.Fail(simulation.Every, simulation.Fault{Status: http.StatusInternalServerError})
			dir := t.TempDir()
			var s *storage.Storage
			if how != "a reload" {
				s = open(dir)
			}
			e := newTestExporter(t, s, first.section("contoso", quickDomains))
			e.awaitReady()
			eventually(t, "the values are exposed", func() bool {
				series := strings.Join(e.tenantSeries("contoso"), "\n")
				return strings.Contains(series, "mde_machines{") && strings.Contains(series, "mde_watched_domain_machines{")
			})

			if how == "a restart" {
				e.Close()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(dir)
				e = newTestExporter(t, s, second.section("contoso", quickDomains))
			} else {
				e.reload(second.section("contoso", quickDomains))
			}
			for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				for _, series := range e.tenantSeries("contoso") {
					isConfigured := strings.HasPrefix(series, "mde_watched_domain_info") || strings.HasPrefix(series, "mde_watched_domain_list_")
					if strings.HasPrefix(series, "mde_machines") || strings.HasPrefix(series, "mde_watched_domain_") && !isConfigured || strings.HasPrefix(series, "mde_refresh_success") {
						t.Fatalf("series of the other Entra tenant: %s", series)
					}
				}
			}
		})
	}
}

// unlistableStore is a store whose Keys fails.
type unlistableStore struct{ collector.Store }

func (unlistableStore) Keys(string) ([]string, error) { return nil, errors.New("disk full") }

func TestValuesOfAnotherEntraTenantAreDeletedAfterListingFailed(t *testing.T) {
	store := &collector.MemoryStore{}
	claimStore(store, "first", slog.New(slog.DiscardHandler))
	if err := store.Save("states", 30); err != nil {
		t.Fatal(err)
	}
	claimStore(unlistableStore{store}, "second", slog.New(slog.DiscardHandler))
	claimStore(store, "second", slog.New(slog.DiscardHandler))
	var machines int
	if found, err := store.Load("states", &machines); found || err != nil {
		t.Errorf("the second Entra tenant has %d machines of the first, %v", machines, err)
	}
}
