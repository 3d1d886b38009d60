package collector

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStoreErrorsAreOnlyLogged(t *testing.T) {
	w, store := newTestEnv(), &memoryStore{}
	memory := Env{Tenant: "contoso", Name: "one", Store: store, Logger: w.logger}.Memory()
	var n int
	memory.Save("one/a", 7)
	if !memory.Load("one/a", &n) || n != 7 || !slices.Equal(memory.Keys("one/"), []string{"one/a"}) || w.log.String() != "" {
		t.Errorf("of a store that works: %d, keys %q, log:\n%s", n, memory.Keys("one/"), w.log)
	}
	store.fail = errors.New("disk full")
	if memory.Load("one/a", &n) {
		t.Error("a value is loaded that cannot be read")
	}
	memory.Keys("one/")
	for _, want := range []string{"key=one/a", "prefix=one/"} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, w.log)
		}
	}
}

func TestStoredTimesMayBeAMinuteAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for ahead, want := range map[time.Duration]bool{-time.Hour: true, time.Minute: true, time.Minute + 1: false} {
			if err := CheckTime(time.Now().Add(ahead)); (err == nil) != want {
				t.Errorf("a time %s ahead: %v", ahead, err)
			}
		}
		if CheckTime(time.Time{}) == nil {
			t.Error("no time is accepted")
		}
	})
}
