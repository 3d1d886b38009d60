package client_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/client"
)

func written(t *testing.T, diagnoses []client.Diagnosis, maxLines int) string {
	t.Helper()
	var b strings.Builder
	if err := client.WriteDiagnoses(&b, diagnoses, maxLines); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func missing(name, found, remedy string) client.Check {
	return client.Check{Name: name, Result: client.Missing, Found: found, Remedy: remedy}
}

func TestDiagnosisSummaryGroupsTenantsByCause(t *testing.T) {
	const notTried = "not tried: no token"
	var diagnoses []client.Diagnosis
	for i := range 200 {
		tenant := fmt.Sprintf("tenant-%03d", i)
		d := client.Diagnosis{Tenant: tenant, Checks: []client.Check{
			{Name: "API token", Result: client.Works, Found: "for the API"},
			{Name: "domain_stats", Result: client.Optional, Found: "HTTP 403", Remedy: "add URL.Read.All"},
		}}
		switch {
		case i%100 == 1:
			d.Checks = []client.Check{
				missing("Graph token", fmt.Sprintf("read tcp 127.0.0.1:%d->127.0.0.1:443: connection reset by peer", 40000+i), "check the firewall"),
				missing("API token", fmt.Sprintf("read tcp 127.0.0.1:%d->127.0.0.1:443: connection reset by peer", 50000+i), "check the firewall"),
				missing("machines", notTried, ""),
			}
		case i%40 == 2:
			d.Checks = []client.Check{
				missing("API token", "/secrets/"+tenant+".pem: no such file or directory", "check certificate_path"),
				missing("machines", notTried, ""),
			}
		case i == 33 || i == 34:
			d.Checks = append(d.Checks, missing("clock", fmt.Sprintf("this machine is 7m%ds behind the sign-in host", i), "set this machine's clock, for example by NTP"))
		case i == 77 || i == 78:
			// A cause of one tenant is printed in full. Different responses are different causes.
			d.Checks = []client.Check{missing("machines", fmt.Sprintf("HTTP %d: Forbidden by /policy", 326+i), "")}
		}
		diagnoses = append(diagnoses, d)
	}
	want := `Summary: 11 of 200 tenants with a problem
API token: /secrets/….pem: no such file or directory
  → check certificate_path
  5 tenants: tenant-002, tenant-042, tenant-082, tenant-122, tenant-162
Graph token, API token: read tcp …127.0.0.1:443: connection reset by peer
  → check the firewall
  2 tenants: tenant-001, tenant-101
clock: this machine is … behind the sign-in host
  → set this machine's clock, for example by NTP
  2 tenants: tenant-033, tenant-034
machines: HTTP 403: Forbidden by /policy
  1 tenant: tenant-077
machines: HTTP 404: Forbidden by /policy
  1 tenant: tenant-078
--tenant=NAME prints each check of a tenant.
`
	if diff := cmp.Diff(want, written(t, diagnoses, 60)); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	all := written(t, diagnoses, 0)
	if n := strings.Count(all, "Tenant tenant-"); n != 200 {
		t.Errorf("%d tables without a limit, want 200", n)
	}
	if summary := strings.TrimSuffix(want, "--tenant=NAME prints each check of a tenant.\n"); !strings.HasSuffix(all, "\n\n"+summary) {
		t.Errorf("without a limit the tables do not end with the summary:\n%s", all[len(all)-900:])
	}
	if diff := cmp.Diff("Summary: 1 tenant, all without a problem\n", written(t, diagnoses[:1], 3)[:len("Summary: 1 tenant, all without a problem\n")]); diff != "" {
		t.Errorf("one tenant (-want +got):\n%s", diff)
	}
}

func TestDiagnosisSummaryNamesEveryTenantWithinMaxLines(t *testing.T) {
	var diagnoses []client.Diagnosis
	for i := range 200 {
		// Letters make the causes different; numbers would be normalized.
		word := string(rune('a'+i%26)) + string(rune('a'+i/26))
		diagnoses = append(diagnoses, client.Diagnosis{Tenant: "of-" + word, Checks: []client.Check{missing("machines", "cause "+word, "remedy")}})
	}
	for _, maxLines := range []int{59, 60, 10} {
		text := written(t, diagnoses, maxLines)
		if n := strings.Count(text, "\n"); n > maxLines || n < maxLines-3 {
			t.Errorf("%d lines, want at most %d and not much fewer", n, maxLines)
		}
		for _, d := range diagnoses {
			if strings.Count(text, d.Tenant) != 1 {
				t.Errorf("%s is not named exactly once", d.Tenant)
			}
		}
		if t.Failed() {
			t.Log(text)
		}
	}
	if text := written(t, diagnoses, 10); !strings.Contains(text, "198 more causes of 198 tenants: ") {
		t.Errorf("two causes of 200 are not followed by the others:\n%s", text)
	}
}

func TestDiagnosisTablesArePrintedIfTheyFit(t *testing.T) {
	diagnoses := []client.Diagnosis{{Tenant: "contoso", Checks: []client.Check{missing("machines", "HTTP 500", "wait")}}}
	all := written(t, diagnoses, 0)
	lines := strings.Count(all, "\n")
	if got := written(t, diagnoses, lines); got != all {
		t.Errorf("within %d lines:\n%s", lines, got)
	}
	if got := written(t, diagnoses, lines-1); strings.Contains(got, "Tenant contoso") {
		t.Errorf("within %d lines:\n%s", lines-1, got)
	}
}
