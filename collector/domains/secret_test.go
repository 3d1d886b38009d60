package domains

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector/states"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// TestTokensInResponsesAreNotExposed returns the token in every field that becomes a
// label, in several encodings.
func TestTokensInResponsesAreNotExposed(t *testing.T) {
	const token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl/of+no~worth-00112233445566778899"
	spellings := []string{
		token, "Bearer " + token, token[:40], token[20:60], strings.ToUpper(token), url.QueryEscape(token),
		base64.StdEncoding.EncodeToString([]byte("Bearer " + token)), strings.Repeat("\u200b", 200) + token,
	}
	var rows, machines []map[string]any
	for n, s := range spellings {
		rows = append(rows, map[string]any{"id": n + 1, "build": "19045 " + s, "architecture": s, "propertiesRequireAttention": []string{s}})
		machines = append(machines, map[string]any{
			"id": fmt.Sprint(s, n), "computerDnsName": s, "lastSeen": "2026-01-01T00:00:00Z", "osPlatform": s, "osProcessor": s, "osBuild": s,
			"healthStatus": s, "riskScore": s, "exposureLevel": s, "onboardingStatus": "Onboarded",
		})
	}
	machines = append(machines, map[string]any{
		"id": strings.Repeat("ab", 20), "computerDnsName": token, "osPlatform": "Windows11", "riskScore": "Low", "onboardingStatus": "Onboarded",
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodPost:
			_, _ = io.WriteString(w, `{"access_token":"`+token+`","token_type":"Bearer","expires_in":3600}`)
		case strings.Contains(r.URL.Path, "machinesecuritystates"):
			_ = json.NewEncoder(w).Encode(map[string]any{"value": rows})
		case strings.Contains(r.URL.Path, "deviceavinfo"):
			_, _ = io.WriteString(w, `{"value":[]}`)
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"value": machines})
		}
	}))
	defer server.Close()

	u := must(url.Parse(server.URL))
	for _, source := range []string{states.SourcePreview, states.SourceMachines} {
		t.Run(source, func(t *testing.T) {
			w := collectortest.NewWorld()
			c := must(client.New(client.Options{
				LoginURL: u, GraphURL: u, APIURL: u, GraphScope: "g/.default", APIScope: "a/.default",
				Credential: client.ClientSecret{TenantID: "t", ClientID: "c", Secret: "of-no-worth"},
			}))
			defer c.Close()
			refreshOnce(t, w, statesOf(w, c, func(o *statesOptions) { o.Source, o.RevisionLabel = source, true }))
			refreshOnce(t, w, newDomains(w, c, []string{"evil.example"}, func(o *Options) { o.MachineInfoLimit = 100 }))
			got := w.Scraped(t)
			for line := range strings.Lines(got) {
				folded := strings.ToLower(line)
				for _, part := range []string{"eyjh", "eyjz", "c2ln", "0011223344", strings.ToLower(spellings[6])[8:20]} {
					if strings.Contains(folded, part) {
						t.Errorf("a part of the token is exposed: %s", line)
						break
					}
				}
			}
			for _, want := range []string{
				`mde_watched_domain_machines{domain="evil.example",tenant="contoso"} 9`,
				`mde_watched_domain_machine_info{computer_dns_name="unknown",domain="evil.example",machine_id="` + strings.Repeat("ab", 20) + `",tenant="contoso"} 1`,
				`mde_watched_domain_machines_risk{domain="evil.example",risk_score="other",tenant="contoso"} 8`,
			} {
				if !strings.Contains(got, want) {
					t.Errorf("%s is missing", want)
				}
			}
		})
	}
}
