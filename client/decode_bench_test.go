//go:build unix

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// The benchmarks decode a page of the simulated tenant and count its rows by build
// and property, and compare that with reading the bytes once, which is the lower bound.
// On a busy machine only processor times of the same round can be compared. The plain program that the exporter is compared with is in benchmark/.

// simulatedPage returns the only page of a list of the simulated tenant, requested with
// a token for the scope.
func simulatedPage(b testing.TB, path, scope string) []byte {
	b.Helper()
	tenant := simulation.New(simulation.Options{Machines: 9_000, PageSize: 10_000, InOrder: true, Roles: []string{simulation.RoleMachines, simulation.RoleAlerts}})
	call := func(method, path, token, form string) []byte {
		r := httptest.NewRequestWithContext(b.Context(), method, path, strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "Bearer "+token)
		answer := httptest.NewRecorder()
		tenant.ServeHTTP(answer, r)
		if answer.Code != http.StatusOK {
			b.Fatal(answer.Code, answer.Body)
		}
		return answer.Body.Bytes()
	}
	var token struct {
		Text string `json:"access_token"`
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {tenant.ClientID()}, "client_secret": {tenant.ClientSecret()}, "scope": {scope + "/.default"}}
	if err := json.Unmarshal(call(http.MethodPost, "/"+tenant.TenantID()+"/oauth2/v2.0/token", "", form.Encode()), &token); err != nil {
		b.Fatal(err)
	}
	return call(http.MethodGet, path, token.Text, "")
}

// onePage reads the rows of a page that is in memory.
func onePage[Entity any](tb testing.TB, page []byte, decode func(*decoder, []byte, *Entity), count func(*Entity)) func() {
	var entity Entity
	ch := chain{list: list{api: Machines, bounds: listBounds}}
	return func() {
		ch.contents = make(map[pageContent]bool)
		p := &pageCall{cancel: func() {}, done: make(chan struct{}), response: &apiResponse{body: bytes.NewReader(page), finished: func(error) {}}}
		close(p.done)
		if _, err := ch.readPage(context.Background(), p, func(d *decoder, row []byte) { decode(d, row, &entity) }, func() bool {
			count(&entity)
			return true
		}); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkSecurityStates(b *testing.B) {
	builds, properties := map[string]*int{}, map[string]*int{}
	benchmarkPage(b, simulatedPage(b, "/testwdatppreview/machinesecuritystates", simulation.GraphAudience), decodeSecurityState, func(s *SecurityState) {
		count(builds, s.Build)
		for p := range s.Properties.All() {
			count(properties, p)
		}
	})
}

func BenchmarkMachines(b *testing.B) {
	builds, health := map[string]*int{}, map[string]*int{}
	benchmarkPage(b, simulatedPage(b, "/api/machines?$top=10000", simulation.APIAudience), decodeMachine, func(m *Machine) {
		count(builds, m.OSBuild)
		count(health, m.HealthStatus)
	})
}

func BenchmarkAntivirusHealth(b *testing.B) {
	modes, engines := map[string]*int{}, map[string]*int{}
	benchmarkPage(b, simulatedPage(b, "/api/deviceavinfo?$top=10000", simulation.APIAudience), decodeAntivirusHealth, func(h *AntivirusHealth) {
		count(modes, h.Mode)
		count(engines, h.EngineVersion)
	})
}

// TestRowsAreDecodedWithoutAllocations allows a few allocations per page, independent of
// the number of rows.
func TestRowsAreDecodedWithoutAllocations(t *testing.T) {
	api := func(path string) []byte { return simulatedPage(t, path, simulation.APIAudience) }
	for name, read := range map[string]func(){
		"machines":         onePage(t, api("/api/machines?$top=10000"), decodeMachine, func(*Machine) {}),
		"antivirus health": onePage(t, api("/api/deviceavinfo?$top=10000"), decodeAntivirusHealth, func(*AntivirusHealth) {}),
	} {
		if n := testing.AllocsPerRun(3, read); n > 40 {
			t.Errorf("%s: %v allocations for a page", name, n)
		}
	}
}

// benchmarkPage reports the medians of the processor time for a row and of its ratio
// to that of reading the bytes in the same round.
func benchmarkPage[Entity any](b *testing.B, page []byte, decode func(*decoder, []byte, *Entity), count func(*Entity)) {
	rows := 0.0
	read := onePage(b, page, decode, func(e *Entity) {
		rows++
		count(e)
	})
	read()
	inPage := rows
	var distance, each []float64
	for b.Loop() {
		ours := processorTime(b, read)
		distance = append(distance, ours/processorTime(b, func() { readOnce(page) }))
		each = append(each, ours/inPage)
	}
	b.ReportMetric(0, "ns/op") // The time of a round has no meaning.
	b.ReportMetric(float64(len(page))/inPage, "bytes/machine")
	b.ReportMetric(median(each), "ns/machine")
	b.ReportMetric(median(distance), "times-reading-bytes")
	b.ReportMetric(testing.AllocsPerRun(5, read)/inPage, "allocs/machine")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// processorTime returns the processor time that the process used for the work, in
// nanoseconds.
func processorTime(b *testing.B, work func()) float64 {
	used := func() int64 {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return usage.Utime.Nano() + usage.Stime.Nano()
	}
	before := used()
	work()
	return float64(used() - before)
}

// count adds one to the count of a name without allocating for names it knows.
func count(counts map[string]*int, name []byte) {
	n, ok := counts[string(name)]
	if !ok {
		n = new(int)
		counts[string(name)] = n
	}
	*n++
}

var bytesSeen int

// readOnce reads every byte of a page, through a buffer of the decoder's size.
func readOnce(page []byte) {
	buffer := make([]byte, 4<<10)
	for r := bytes.NewReader(page); ; {
		n, err := r.Read(buffer)
		bytesSeen += bytes.Count(buffer[:n], []byte("{"))
		if err != nil {
			return
		}
	}
}
