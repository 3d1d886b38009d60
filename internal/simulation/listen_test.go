package simulation_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestListening(t *testing.T) {
	for name, c := range map[string]struct {
		options simulation.ListenOptions
		scheme  string
		proto   string
	}{
		"plain":              {simulation.ListenOptions{}, "http", "HTTP/1.1"},
		"with TLS":           {simulation.ListenOptions{TLS: true}, "https", "HTTP/2.0"},
		"separate origins":   {simulation.ListenOptions{Separate: true}, "http", "HTTP/1.1"},
		"in memory":          {simulation.ListenOptions{InMemory: true, Separate: true}, "http", "HTTP/1.1"},
		"in memory with TLS": {simulation.ListenOptions{InMemory: true, TLS: true}, "https", "HTTP/2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, simulation.Options{Machines: 3}, c.options)
			for _, origin := range []string{f.LoginURL, f.GraphURL, f.APIURL} {
				if !strings.HasPrefix(origin, c.scheme+"://127.0.0.1:") {
					t.Errorf("origin %s", origin)
				}
			}
			if separate := f.LoginURL != f.GraphURL && f.GraphURL != f.APIURL; separate != c.options.Separate {
				t.Errorf("%s %s %s", f.LoginURL, f.GraphURL, f.APIURL)
			}
			f.states(t)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.APIURL+"/api/machines?$top=5", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+f.token(t, apiScope))
			response, err := f.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK || response.Proto != c.proto {
				t.Errorf("%d %s", response.StatusCode, response.Proto)
			}
		})
	}
}

func TestListenFailsForUsedAddress(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{})
	address := strings.TrimPrefix(f.APIURL, "http://")
	if _, err := f.Listen(simulation.ListenOptions{Address: address}); err == nil {
		t.Error("Listen succeeded on a used address")
	}
	f.Close()
	again, err := f.Listen(simulation.ListenOptions{Address: address})
	if err != nil {
		t.Fatalf("the address is in use after Close: %v", err)
	}
	again.Close()
}

func TestResponsesAreCompressedOnRequest(t *testing.T) {
	for name, cached := range map[string]bool{"uncached": false, "cached": true} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, simulation.Options{Machines: 100, InOrder: true, CachePages: cached}, simulation.ListenOptions{})
			token := f.token(t, graphScope)
			get := func(encoding string) ([]byte, string) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.GraphURL+statesPath, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+token)
				r.Header.Set("Accept-Encoding", encoding)
				response, err := f.client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = response.Body.Close() })
				body := io.Reader(response.Body)
				if response.Header.Get("Content-Encoding") == "gzip" {
					if body, err = gzip.NewReader(body); err != nil {
						t.Fatal(err)
					}
				}
				all, err := io.ReadAll(body)
				if err != nil {
					t.Fatal(err)
				}
				return all, response.Header.Get("Content-Encoding")
			}
			plain, none := get("identity")
			compressed, encoding := get("gzip")
			if none != "" || encoding != "gzip" || string(plain) != string(compressed) {
				t.Errorf("%q %q, %d and %d bytes", none, encoding, len(plain), len(compressed))
			}
		})
	}
}

// In-memory connections do not block the fake time.
func TestInMemoryTenantRunsInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := serve(t, simulation.Options{TokenLifetime: 5 * time.Minute}, simulation.ListenOptions{InMemory: true})
		token := f.token(t, apiScope)
		f.Fail(simulation.Machines, simulation.Fault{Delay: time.Minute, Times: 1}, simulation.Fault{Status: 500, For: 2 * time.Minute})
		start := time.Now()
		if a := f.get(t, f.APIURL+"/api/machines", token); a.status != 200 || time.Since(start) != time.Minute {
			t.Errorf("%d after %s", a.status, time.Since(start))
		}
		if a := f.get(t, f.APIURL+"/api/machines", token); a.status != 500 {
			t.Errorf("status %d during the fault", a.status)
		}
		time.Sleep(time.Minute)
		if a := f.get(t, f.APIURL+"/api/machines", token); a.status != 200 {
			t.Errorf("status %d after the fault", a.status)
		}
		time.Sleep(3 * time.Minute)
		if a := f.get(t, f.APIURL+"/api/machines", token); a.status != 401 {
			t.Errorf("status %d with an expired token", a.status)
		}
	})
}
