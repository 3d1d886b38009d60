package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/config"
)

// mistakes returns the error of Check.
func mistakes(path string) error {
	_, err := config.Check(path, config.Overrides{})
	return err
}

func TestCheckReadsAllFiles(t *testing.T) {
	ca := newAuthority(t)
	end := time.Now().Add(time.Hour)
	cert, key := ca.issue(t, end, true)
	_, otherKey := ca.issue(t, end, true)
	ecCert, ecKey := ca.issue(t, end, false)
	old, oldKey := ca.issue(t, time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC), true)
	ids := "tenant_id: " + tenantID + ", client_id: " + clientID

	path := write(t, map[string]string{
		"mde.yml": `tenants:
- name: good
  azuread: {certificate: {` + ids + `, certificate_path: good.pem}}
  watched_domains: {files: [list.txt]}
- name: good with a chain
  azuread: {certificate: {` + ids + `, certificate_path: chain.pem, certificate_key_path: key.pem}}
- name: missing secret
  azuread:
    oauth:
      tenant_id: ` + tenantID + `
      client_id: wrong id
      client_secret_file: none
- name: empty secret
  azuread: {oauth: {` + ids + `, client_secret_file: empty}}
- name: empty token
  azuread: {workload_identity: {` + ids + `, token_file_path: empty}}
- name: key of another certificate
  azuread:
    certificate:
      tenant_id: ` + tenantID + `
      client_id: ` + clientID + `
      certificate_path: cert.pem
      certificate_key_path: other.pem
- name: no key
  azuread: {certificate: {` + ids + `, certificate_path: cert.pem}}
- name: wrong key type
  azuread: {certificate: {` + ids + `, certificate_path: ec.pem}}
- name: expired
  azuread: {certificate: {` + ids + `, certificate_path: old.pem}}
  watched_domains: {files: [bad.txt]}
`,
		"good.pem": cert + key, "chain.pem": ca.pem() + cert, "key.pem": key, "cert.pem": cert, "other.pem": otherKey,
		"ec.pem": ecCert + ecKey, "old.pem": old + oldKey, "empty": "\n", "list.txt": "a.example\n", "bad.txt": "\n*\n",
	})
	type line struct{ at, about string }
	want := []line{
		{"mde.yml:11: tenants[2].azuread.oauth.client_id: ", "is not an application (client) id"},
		{"mde.yml:12: tenants[2].azuread.oauth.client_secret_file: ", "no such file or directory"},
		{"mde.yml:14: tenants[3].azuread.oauth.client_secret_file: ", "empty"},
		{"mde.yml:16: tenants[4].azuread.workload_identity.token_file_path: ", "empty"},
		{"mde.yml:22: tenants[5].azuread.certificate.certificate_path: ", "other.pem"},
		{"mde.yml:25: tenants[6].azuread.certificate.certificate_path: ", "key"},
		{"mde.yml:27: tenants[7].azuread.certificate.certificate_path: ", "RSA"},
		{"mde.yml:29: tenants[8].azuread.certificate.certificate_path: ", "expired on 2020-02-03"},
		{"bad.txt:2: ", "wildcard"},
	}
	got := lines(mistakes(path), filepath.Dir(path))
	if len(got) != len(want) {
		t.Fatalf("got %d mistakes, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i, w := range want {
		if !strings.HasPrefix(got[i], w.at) || !strings.Contains(got[i], w.about) {
			t.Errorf("got %q, want %q with %q", got[i], w.at, w.about)
		}
	}
}

func TestCredentialFileMayBeCreatedLater(t *testing.T) {
	path := write(t, map[string]string{"mde.yml": "tenants:\n- azuread: {oauth: {tenant_id: " + tenantID + ", client_id: " + clientID + ", client_secret_file: later}}\n"})
	mustLoad(t, path)
	if err := mistakes(path); err == nil || !strings.HasPrefix(err.Error(), path+":2: tenants[0].azuread.oauth.client_secret_file: ") {
		t.Errorf("got %v, want a mistake in line 2", err)
	}
	replace(t, filepath.Join(filepath.Dir(path), "later"), "hush\n")
	if err := mistakes(path); err != nil {
		t.Errorf("got %v after the file was created", err)
	}
}

func TestUnreadableConfigurationFile(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "none.yml"), dir} {
		want := path + ": no such file or directory"
		if path == dir {
			want = path + ": a directory, not a regular file"
		}
		_, err := config.Load(path, config.Overrides{})
		if diff := cmp.Diff([]string{want}, lines(err, "-")); diff != "" {
			t.Errorf("Load (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{want}, lines(mistakes(path), "-")); diff != "" {
			t.Errorf("Check (-want +got):\n%s", diff)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(oneTenant + "  watched_domains: {domains: [a.example]}\n"))
	f.Add([]byte("global: &g {quota: {calls_per_minute: 1}}\ntenants:\n- &a {name: a, azuread: {managed_identity: {}}}\n- <<: *a\n  <<: [*g, *a]\n  name: b\n"))
	f.Add([]byte("tenants: [{azuread: {oauth: {client_secret: *hush}}}]"))
	f.Add([]byte("a: &a [*a]\nb: {<<: *a}\n"))
	f.Add([]byte("tenants: &a\n- <<: *a\n"))
	f.Add([]byte("a: &a {<<: *a}\n"))
	f.Add([]byte("tenants:\n- name: !!binary x\n  quota: !!int y\n---\n"))
	f.Add([]byte("? [a]\n: {b: c}\n"))
	f.Add([]byte("{}\n"))
	f.Add([]byte("x-a: &a {oauth: {client_id: a, client_secret: b, client_secret_expires: 2027-01-31}}\nglobal: {azuread: *a}\ntenants: [{azuread: {oauth: {tenant_id: c, client_secret: }}}]\ntenant_files: [none/*]\n"))
	path := filepath.Join(f.TempDir(), "mde.yml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "file") || strings.Contains(string(data), "path") {
			return // Do not read files of this machine.
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path, config.Overrides{})
		if (c == nil) == (err == nil) {
			t.Fatalf("got %v, %v", c, err)
		}
		if err != nil {
			problems, _ := errors.AsType[config.Problems](err)
			if len(problems) == 0 {
				t.Errorf("got %v, want Problems", err)
			}
			for _, p := range problems {
				if p.File == "" || p.Message == "" || p.Line < 0 || p.Line > strings.Count(string(data), "\n")+2 || strings.ContainsAny(p.String(), "\n\r") {
					t.Errorf("unhelpful problem: %q", p)
				}
			}
			return
		}
		for _, tenant := range c.Tenants {
			if tenant.Name == "" || tenant.RequestTimeout <= 0 || tenant.Quota.CallsPerMinute < 1 || tenant.SecurityStates.MaxAge < tenant.SecurityStates.RefreshInterval {
				t.Errorf("invalid tenant:\n%s", tenant)
			}
			if _, err := tenant.ClientOptions(); err != nil {
				t.Errorf("no client options: %v", err)
			}
		}
	})
}

func TestMistakesOfFilesAreAddedToOthers(t *testing.T) {
	for n := range 9 {
		unknown := ""
		for i := range n {
			unknown += "x" + string(rune('0'+i)) + ": 1\n"
		}
		path := write(t, map[string]string{
			"mde.yml": unknown + "tenants:\n- azuread: {oauth: {tenant_id: " + tenantID + ", client_id: " + clientID + ", client_secret_file: none}}\n  watched_domains: {files: [bad.txt]}\n",
			"bad.txt": "*\n",
		})
		if got := lines(mistakes(path), "-"); len(got) != n+2 || !strings.Contains(got[n+1], "bad.txt:1: ") {
			t.Errorf("got %d mistakes, want %d, the last in bad.txt:\n%s", len(got), n+2, strings.Join(got, "\n"))
		}
	}
}
