package simulation_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// BenchmarkPage serves a page of 10,000 rows out of a million machines over
// loopback. The client discards it.
func BenchmarkPage(b *testing.B) {
	for _, cached := range []bool{false, true} {
		f := serve(b, simulation.Options{Machines: 1_000_000, PageSize: 10_000, CachePages: cached}, simulation.ListenOptions{})
		name := "uncached"
		if cached {
			name = "cached"
		}
		for _, c := range []struct{ name, target, token string }{
			{"states", f.GraphURL + statesPath, f.token(b, graphScope)},
			{"machines", f.APIURL + "/api/machines?$top=10000&$skip=500000", f.token(b, apiScope)},
			{"antivirus", f.APIURL + "/api/deviceavinfo?$top=10000&$skip=500000", f.token(b, apiScope)},
		} {
			for _, encoding := range []string{"identity", "gzip"} {
				b.Run(name+"/"+c.name+"/"+encoding, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, c.target, nil)
						if err != nil {
							b.Fatal(err)
						}
						r.Header.Set("Authorization", "Bearer "+c.token)
						r.Header.Set("Accept-Encoding", encoding)
						response, err := f.client.Do(r)
						if err != nil {
							b.Fatal(err)
						}
						n, err := io.Copy(io.Discard, response.Body)
						if err != nil || response.StatusCode != http.StatusOK {
							b.Fatal(response.Status, err)
						}
						b.SetBytes(n)
						_ = response.Body.Close()
					}
				})
			}
		}
	}
}
