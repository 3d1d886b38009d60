package servertest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A rounded end may lie before the samples that an instant query just saw.
func TestRangeQueryDoesNotRoundItsEnd(t *testing.T) {
	var got url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.Query()
		_, _ = w.Write([]byte(`{"status":"success","data":{"result":[]}}`))
	}))
	defer server.Close()
	p := &Prometheus{&Process{Address: strings.TrimPrefix(server.URL, "http://")}}
	end := time.Date(2026, 11, 27, 10, 24, 10, 700e6, time.UTC)
	if _, err := p.QueryRange("up", end.Add(-time.Minute), end, time.Second); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"query": "up", "start": "2026-11-27T10:23:10.7Z", "end": "2026-11-27T10:24:10.7Z", "step": "1"} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
}
