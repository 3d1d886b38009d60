package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documented is a row of a table of keys.
type documented struct{ Type, Default string }

var row = regexp.MustCompile("(?m)^\\| `([][a-z0-9_.]+)` \\| ([^|]*) \\| ([^|]*) \\| ")

// tableUnder returns the table of keys below a heading.
func tableUnder(t *testing.T, heading string) map[string]documented {
	t.Helper()
	_, text, ok := strings.Cut(page(t), "\n### "+heading+"\n")
	if !ok {
		t.Fatalf("no heading %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n#")
	rows := map[string]documented{}
	for _, m := range row.FindAllStringSubmatch(strings.ReplaceAll(text, "| |", "|  |"), -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("key %s is twice under %q", m[1], heading)
		}
		rows[m[1]] = documented{m[2], m[3]}
	}
	return rows
}

// leaves adds the keys of a section that have values, with the descriptions of their
// types.
func leaves(typ reflect.Type, prefix string, into map[string]string) {
	for _, key := range keysOf(typ) {
		typ, path := key.typ, prefix+key.name
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch {
		case typ.Kind() == reflect.Struct:
			leaves(typ, path+".", into)
		case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct:
			leaves(typ.Elem(), path+"[].", into)
		case typ.Kind() == reflect.Slice:
			into[path] = "list of text"
		case typ == reflect.TypeFor[model.Duration]():
			into[path] = "duration"
		case typ == reflect.TypeFor[promconfig.TLSVersion]():
			into[path] = "text"
		default:
			into[path] = strings.TrimPrefix(expected(typ), "a ")
		}
	}
}

func TestDocumentedKeysAndTypes(t *testing.T) {
	settings, tenant := map[string]string{}, map[string]string{}
	leaves(reflect.TypeFor[settingsSection](), "", settings)
	leaves(reflect.TypeFor[tenantSection](), "", tenant)
	for key := range settings {
		delete(tenant, key)
	}
	for heading, want := range map[string]map[string]string{
		"Under `global` and under each tenant": settings,
		"Under each tenant":                    tenant,
	} {
		got := map[string]string{}
		for key, row := range tableUnder(t, heading) {
			got[key] = row.Type
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-code +page):\n%s", heading, diff)
		}
	}
}

func TestDocumentedDefaults(t *testing.T) {
	text, err := yaml.Marshal(newTenant(newValidator(Overrides{}).settings()))
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, heading := range []string{"Under `global` and under each tenant", "Under each tenant"} {
		for key, row := range tableUnder(t, heading) {
			var value any = tree
			for name := range strings.SplitSeq(key, ".") {
				if section, ok := value.(map[string]any); ok {
					value = section[name]
				}
			}
			want, err := yaml.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			switch value {
			case nil, "":
				continue // The page describes these defaults in words.
			}
			checked++
			if got := strings.Trim(row.Default, "`"); got != strings.TrimSpace(string(want)) {
				t.Errorf("default of %s is %s on the page, want %s", key, row.Default, want)
			}
		}
	}
	if checked < 14 {
		t.Errorf("only %d defaults were compared", checked)
	}
}

func TestDocumentedClouds(t *testing.T) {
	text := page(t)
	for _, c := range clouds {
		want := "| `" + strings.Join([]string{c.name, c.LoginURL, c.GraphURL, c.APIURL, c.APIScope}, "` | `") + "` |"
		if !strings.Contains(text, want) {
			t.Errorf("no row %s", want)
		}
	}
}

func TestDocumentedExampleIsValid(t *testing.T) {
	_, text, _ := strings.Cut(page(t), "<!-- example: a test loads it -->\n```yaml\n")
	text, _, ok := strings.Cut(text, "\n```")
	if !ok {
		t.Fatal("no example")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "mde.yml")
	// The CA file does not exist. Another test covers TLS files.
	text = strings.Replace(text, "    tls_config:\n      ca_file: tls/fabrikam-ca.pem\n", "", 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tenant := range c.Tenants {
		names = append(names, tenant.Name)
	}
	if diff := cmp.Diff([]string{"contoso", "fabrikam", "agency"}, names); diff != "" {
		t.Errorf("tenants (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"evil.example", "xn--bcher-kva.example"}, c.Tenants[0].WatchedDomains.Domains); diff != "" {
		t.Errorf("domains (-want +got):\n%s", diff)
	}
}
