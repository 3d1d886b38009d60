package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"iter"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The seeds of these targets are in testdata/fuzz. No input may cause a panic or a hang.
// What is read without an error must be valid for encoding/json, with the same number of rows.

// fixedResponse is a transport with the same response to every call.
type fixedResponse []byte

func (body fixedResponse) RoundTrip(r *http.Request) (*http.Response, error) {
	header, content := http.Header{}, []byte(body)
	if r.Method == http.MethodPost {
		header.Set("Content-Type", "application/json")
		content = []byte(`{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
		_ = r.Body.Close()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(bytes.NewReader(content)), Request: r}, nil
}

func fuzzClient(t *testing.T, body []byte) *Client {
	host := &url.URL{Scheme: "https", Host: "far.example"}
	c, err := New(Options{
		LoginURL: host, GraphURL: host, APIURL: host, GraphScope: "graph", APIScope: "api",
		Credential: ClientSecret{TenantID: "tenant", ClientID: "app", Secret: "s"},
		Transport:  fixedResponse(body),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// checkRows compares the rows of a list with those that encoding/json reads.
func checkRows[Entity any](t *testing.T, body []byte, rows iter.Seq2[*Entity, error]) {
	n := 0
	for entity, err := range rows {
		if err != nil {
			if ReasonOf(err) != ReasonDecode && ReasonOf(err) != ReasonPagination {
				t.Errorf("error %v", err)
			}
			return
		}
		if entity == nil {
			t.Fatal("neither an entity nor an error")
		}
		n++
	}
	var page struct {
		Value []json.RawMessage `json:"value"`
		Link  any               `json:"@odata.nextLink"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(body, byteOrderMark), &page); err != nil {
		t.Fatalf("read %q without an error, encoding/json fails: %v", body, err)
	}
	if n != len(page.Value) {
		t.Fatalf("read %d rows of %q, encoding/json %d", n, body, len(page.Value))
	}
}

func FuzzSecurityStates(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		checkRows(t, body, fuzzClient(t, body).SecurityStates(t.Context()))
	})
}

func FuzzMachines(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		checkRows(t, body, fuzzClient(t, body).Machines(t.Context()))
	})
}

func FuzzAntivirusHealth(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		checkRows(t, body, fuzzClient(t, body).AntivirusHealth(t.Context()))
	})
}

func FuzzDomainStatistics(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := fuzzClient(t, body).DomainStatistics(t.Context(), "evil.example")
		if err != nil && s != (DomainStatistics{}) || s.Prevalence < 0 {
			t.Errorf("statistics %+v, error %v", s, err)
		}
		if err == nil && !json.Valid(bytes.TrimPrefix(body, byteOrderMark)) {
			t.Errorf("read %q, which is not JSON", body)
		}
	})
}

func FuzzScores(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		score, err := fuzzClient(t, body).ExposureScore(t.Context())
		if err != nil && score != 0 || score < 0 || math.IsNaN(score) || math.IsInf(score, 0) {
			t.Errorf("score %v, error %v", score, err)
		}
		if err == nil && !json.Valid(bytes.TrimPrefix(body, byteOrderMark)) {
			t.Errorf("read %q, which is not JSON", body)
		}
	})
}

func FuzzDeviceGroupScores(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		c := fuzzClient(t, body)
		checkRows(t, body, rows(t.Context(), c, c.list(DeviceGroupExposureScore, ""), decodeDeviceGroupScore))
		for score, err := range c.DeviceGroupExposureScores(t.Context()) {
			if err == nil && (score.Score < 0 || math.IsNaN(score.Score) || math.IsInf(score.Score, 0)) {
				t.Errorf("score %+v of %q", score, body)
			}
		}
	})
}

func FuzzAlerts(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		unresolved := 0
		for alert, err := range fuzzClient(t, body).Alerts(t.Context()) {
			if err != nil {
				if ReasonOf(err) != ReasonDecode && ReasonOf(err) != ReasonPagination {
					t.Errorf("error %v", err)
				}
				return
			}
			if bytes.EqualFold(alert.Status, []byte("Resolved")) {
				t.Errorf("a resolved alert is yielded of %q", body)
			}
			unresolved++
		}
		var page struct {
			Value []map[string]any `json:"value"`
		}
		if err := json.Unmarshal(bytes.TrimPrefix(body, byteOrderMark), &page); err != nil {
			t.Fatalf("read %q without an error, encoding/json fails: %v", body, err)
		}
		for _, row := range page.Value {
			if status, _ := row["status"].(string); !strings.EqualFold(status, "Resolved") {
				unresolved--
			}
		}
		if unresolved != 0 {
			t.Errorf("%d alerts more than encoding/json reads of %q", unresolved, body)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Fuzz(func(t *testing.T, retry, date string) {
		header := http.Header{"Retry-After": {retry}, "Date": {date}}
		if pause := retryAfter(header); pause < 0 || pause > maxRetryAfter {
			t.Errorf("a pause of %v for %q", pause, retry)
		}
	})
}

func TestRetryAfterParsing(t *testing.T) {
	const date = "Wed, 21 Oct 2015 07:28:00 GMT"
	for _, test := range []struct {
		name       string
		retryAfter string
		date       string
		want       time.Duration
	}{
		{"seconds", "120", "", 2 * time.Minute},
		{"seconds with space around", " 120 ", "", 2 * time.Minute},
		{"no pause", "0", "", 0},
		{"a date", "Wed, 21 Oct 2015 07:30:00 GMT", date, 2 * time.Minute},
		{"a date in the old form", "Wednesday, 21-Oct-15 07:30:00 GMT", date, 2 * time.Minute},
		{"a date in the past", "Wed, 21 Oct 2015 07:00:00 GMT", date, 0},
		{"a date in the past by this machine's clock", "Wed, 21 Oct 2015 07:30:00 GMT", "", 0},
		{"nothing", "", date, 0},
		{"a negative number", "-5", "", 0},
		{"a fraction", "1.5", "", 0},
		{"a word", "soon", "", 0},
		{"longer than a day", "1000000", "", maxRetryAfter},
		{"too large for a duration", "99999999999999999999999999", "", maxRetryAfter},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := http.Header{"Retry-After": {test.retryAfter}, "Date": {test.date}}
			if got := retryAfter(header); got != test.want {
				t.Errorf("a pause of %v, want %v", got, test.want)
			}
		})
	}
}

func FuzzNextLink(f *testing.F) {
	f.Fuzz(func(t *testing.T, link string) {
		host := &url.URL{Scheme: "https", Host: "graph.example"}
		first := host.JoinPath("list")
		ch := chain{list: list{api: MachineSecurityStates, service: &service{url: host}, bounds: listBounds}, seen: make(map[[sha256.Size]byte]bool)}
		next, err := ch.follow(first, link)
		if err != nil {
			if ReasonOf(err) != ReasonPagination {
				t.Errorf("error %v", err)
			}
			return
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, next.String(), nil)
		if err != nil {
			t.Fatalf("%q was followed: %v", link, err)
		}
		if u := request.URL; u.Scheme != "https" || u.User != nil || u.Hostname() != "graph.example" || u.Port() != "" && u.Port() != "443" {
			t.Errorf("%q was followed to %s", link, u)
		}
	})
}
