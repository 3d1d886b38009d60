package exporter

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/config"
)

func TestWatchReloadsOncePerChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var reloads, checks atomic.Int32
		var changed atomic.Bool
		r := NewReloader(func() error {
			reloads.Add(1)
			changed.Store(false)
			return errors.New("mde.yml:3: unknown key")
		})
		go r.Run(ctx)
		go r.Watch(ctx, 30*time.Second, func() bool {
			checks.Add(1)
			return changed.Load()
		})
		for range 2 {
			want := reloads.Load() + 1
			changed.Store(true)
			time.Sleep(time.Hour)
			synctest.Wait()
			if got := reloads.Load(); got != want {
				t.Errorf("%d reloads, want %d", got, want)
			}
		}
		if got := checks.Load(); got < 239 || got > 240 {
			t.Errorf("the configuration was checked %d times in two hours, want every 30s", got)
		}
		cancel()
	})
}

func TestChangedReportsDifferentLoadResult(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mde.yml")
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to string) { // Swap the link as the kubelet does for a ConfigMap.
		t.Helper()
		_ = os.Remove(filepath.Join(dir, "..data"))
		if err := os.Symlink(to, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	const (
		signIn = "azuread: {oauth: {tenant_id: t, client_id: c, client_secret: hush}}\nendpoints: {login_url: 'http://127.0.0.1:1', graph_url: 'http://127.0.0.1:1', api_url: 'http://127.0.0.1:1'}\n"
		main   = "global: {request_timeout: 1s}\ntenant_files: [tenant-*.yml]\n"
	)
	for _, version := range []string{"..1", "..2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put("..1/mde.yml", main)
	put("..2/mde.yml", main+"x-new: true\nglobal: {request_timeout: 2s}\n")
	put("tenant-a.yml", "name: a\n"+signIn)
	link("..1")
	if err := os.Symlink("..data/mde.yml", path); err != nil {
		t.Fatal(err)
	}
	var loadErr error
	e := New(Options{
		Load: func() (*config.Config, error) {
			if loadErr != nil {
				return nil, loadErr
			}
			return config.Load(path, config.Overrides{})
		},
		Registry: prometheus.NewRegistry(),
		Logger:   slog.New(slog.DiscardHandler),
	})
	defer e.Close()
	for _, step := range []struct {
		name           string
		change         func()
		changed, valid bool
	}{
		{"the first load", func() {}, true, true},
		{"a comment is added", func() { put("tenant-a.yml", "# a\nname: a\n"+signIn) }, false, true},
		{"the link of a ConfigMap is swapped to a mistake", func() { link("..2") }, true, false},
		{"the mistake moves to another line", func() { put("..2/mde.yml", "\n"+main+"global: {request_timeout: 2s}\n") }, true, false},
		{"the mistake is corrected", func() { put("..2/mde.yml", "global: {request_timeout: 2s}\ntenant_files: [tenant-*.yml]\n") }, true, true},
		{"a tenant is added", func() { put("tenant-b.yml", "name: b\n"+signIn) }, true, true},
		{"a tenant's secret is replaced", func() { put("tenant-b.yml", "name: b\n"+strings.Replace(signIn, "hush", "quiet", 1)) }, true, true},
		{"a tenant gets a mistake", func() { put("tenant-b.yml", "name: a\n"+signIn) }, true, false},
		{"the tenant is restored", func() { put("tenant-b.yml", "name: b\n"+strings.Replace(signIn, "hush", "quiet", 1)) }, true, true},
		{"a tenant is removed", func() { _ = os.Remove(filepath.Join(dir, "tenant-b.yml")) }, true, true},
		{"the file is removed", func() { _ = os.Remove(path) }, true, false},
	} {
		step.change()
		if changed := e.Changed(); changed != step.changed {
			t.Errorf("%s: changed is %v, want %v", step.name, changed, step.changed)
		}
		if err := e.Reload(); (err == nil) != step.valid {
			t.Errorf("%s: %v", step.name, err)
		}
		if e.Changed() {
			t.Errorf("%s: changed after it was loaded", step.name)
		}
	}
	loadErr = errors.New("a tenant of the demo")
	if err := e.Reload(); err == nil {
		t.Error("Reload returned no error")
	}
	loadErr = nil
	if err := os.WriteFile(path, []byte("tenant_files: [tenant-*.yml]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !e.Changed() {
		t.Error("Changed returned false after a failed reload, although the configuration is valid again")
	}
}
