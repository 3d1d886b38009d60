package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/mde-exporter/mde_exporter/collector/domains"
)

// full returns a tenant with all sections.
func full() *Tenant {
	s := newTenant(newValidator(Overrides{}).settings())
	s.AzureAD.OAuth, s.AzureAD.Certificate = &oauthSection{}, &certificateSection{}
	s.AzureAD.WorkloadIdentity, s.AzureAD.ManagedIdentity = &workloadIdentitySection{}, &managedIdentitySection{}
	return &Tenant{tenantSection: s}
}

// eachValue calls do for every value in v that is not a struct, including unexported
// fields.
func eachValue(v reflect.Value, path string, do func(path string, v reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Field(i)
			field = reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
			eachValue(field, path+"."+v.Type().Field(i).Name, do)
		}
	case reflect.Pointer:
		eachValue(v.Elem(), path, do)
	default:
		do(path, v)
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				eachValue(v.Index(i), fmt.Sprintf("%s[%d]", path, i), do)
			}
		}
	}
}

func change(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint16:
		v.SetUint(v.Uint() + 1)
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	default:
		t.Fatalf("%s: a field of kind %s, which this test cannot change", path, v.Kind())
	}
}

func TestTenantsAreComparedByAllFields(t *testing.T) {
	var paths []string
	eachValue(reflect.ValueOf(&full().tenantSection).Elem(), "", func(path string, _ reflect.Value) { paths = append(paths, path) })
	if len(paths) < 45 {
		t.Errorf("only %d fields", len(paths))
	}
	if a, b := full(), full(); !a.Equal(b) || !a.SameClient(b) {
		t.Error("two tenants with the same settings differ")
	}
	for _, changed := range paths {
		a, b := full(), full()
		eachValue(reflect.ValueOf(&b.tenantSection).Elem(), "", func(path string, v reflect.Value) {
			if path == changed {
				change(t, path, v)
			}
		})
		ofCollector := strings.Contains(changed, ".Collectors.")
		if a.Equal(b) || a.SameClient(b) != ofCollector {
			t.Errorf("%s: Equal %v, SameClient %v", changed, a.Equal(b), a.SameClient(b))
		}
	}
}

func TestCollectorSectionsArePlainValuesWithCommonKeys(t *testing.T) {
	var c Collectors
	for name, section := range c.All() {
		typ := reflect.TypeOf(section).Elem()
		var keys []string
		for _, key := range keysOf(typ) {
			keys = append(keys, key.name)
		}
		for _, key := range []string{"enabled", "refresh_interval", "max_age"} {
			if !slices.Contains(keys, key) {
				t.Errorf("%s has no key %s: is the Schedule inline?", name, key)
			}
		}
		for _, decoding := range []reflect.Type{
			reflect.TypeFor[yaml.Unmarshaler](), reflect.TypeFor[yaml.Marshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
			reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[json.Marshaler](), reflect.TypeFor[yaml.IsZeroer](),
		} {
			if reflect.TypeOf(section).Implements(decoding) {
				t.Errorf("%s implements %s, perhaps by embedding Schedule: its keys would be ignored", name, decoding)
			}
		}
		eachValue(reflect.ValueOf(section).Elem(), name, func(path string, v reflect.Value) {
			switch v.Kind() {
			case reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64, reflect.String:
			case reflect.Slice:
				if k := v.Type().Elem().Kind(); k != reflect.String && k != reflect.Struct {
					t.Errorf("%s is a list of %s", path, k)
				}
			default:
				t.Errorf("%s is a %s, which tenants would share", path, v.Kind())
			}
		})
	}
}

func TestTenantsDoNotShareSlices(t *testing.T) {
	v := newValidator(Overrides{WatchedDomains: []string{"flag.example"}})
	c, problems := v.parse("mde.yml", []byte(`global: {watched_domains: {domains: [b.example, a.example], files: [b.txt, a.txt], lists: [{name: c2, domains: [d.example], files: [d.txt]}]}}
tenants:
- {name: a, azuread: {managed_identity: {}}}
- {name: b, azuread: {managed_identity: {}}}
- {name: c, azuread: {managed_identity: {}}, watched_domains: {domains: [c.example]}}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	owner := map[unsafe.Pointer]string{}
	for _, tenant := range c.Tenants {
		eachValue(reflect.ValueOf(&tenant.Collectors).Elem(), tenant.Name, func(path string, v reflect.Value) {
			if v.Kind() != reflect.Slice || v.Len() == 0 {
				return
			}
			if other, shared := owner[v.UnsafePointer()]; shared {
				t.Errorf("%s and %s share a list", path, other)
			}
			owner[v.UnsafePointer()] = path
		})
	}
	if want := 15; len(owner) != want {
		t.Errorf("%d lists, want %d", len(owner), want)
	}
}

func TestTenantInheritsFileValuesNotDefaults(t *testing.T) {
	v := newValidator(Overrides{})
	c, problems := v.parse("mde.yml", []byte(`global: {security_states: {refresh_interval: 10m}}
tenants:
- {name: a, azuread: {managed_identity: {}}, security_states: {refresh_interval: 1h}}
- {name: b, azuread: {managed_identity: {}}}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for i, want := range []string{"3h", "30m"} {
		if got := c.Tenants[i].SecurityStates.MaxAge.String(); got != want {
			t.Errorf("max_age of tenant %s is %s, want %s", c.Tenants[i].Name, got, want)
		}
	}
}

func TestTenantListsAreAddedToGlobalLists(t *testing.T) {
	v := newValidator(Overrides{WatchedDomains: []string{"flag.example"}})
	c, problems := v.parse("mde.yml", []byte(`global:
  watched_domains:
    domains: [d.example]
    lists:
    - {name: c2, refresh_interval: 15m, max_age: 1h, domains: [b.example], files: [/c2.txt]}
    - {name: phishing, domains: [P.example.]}
tenants:
- {name: a, azuread: {managed_identity: {}}}
- name: b
  azuread: {managed_identity: {}}
  watched_domains:
    refresh_interval: 2h
    domains: [b.example]
    lists:
    - {name: own, max_age: 9h, domains: [o.example]}
    - {name: c2, refresh_interval: 5m, domains: [b.example, A.example]}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	const minute, hour = model.Duration(time.Minute), model.Duration(time.Hour)
	list := func(name string, interval, age model.Duration, names, files []string) domains.ListConfig {
		return domains.ListConfig{Name: name, RefreshInterval: interval, MaxAge: age, Domains: names, Files: files}
	}
	c2 := []string{"/c2.txt"}
	for i, want := range [][]domains.ListConfig{
		{
			list("c2", 15*minute, hour, []string{"b.example"}, c2),
			list("default", hour, 0, []string{"d.example", "flag.example"}, nil),
			list("phishing", hour, 0, []string{"p.example"}, nil),
		}, {
			list("c2", 5*minute, hour, []string{"a.example", "b.example"}, c2),
			list("default", 2*hour, 0, []string{"b.example", "d.example", "flag.example"}, nil),
			list("phishing", 2*hour, 0, []string{"p.example"}, nil),
			list("own", 2*hour, 9*hour, []string{"o.example"}, nil),
		},
	} {
		if diff := cmp.Diff(want, c.Tenants[i].WatchedDomains.InForce()); diff != "" {
			t.Errorf("tenant %s (-want +got):\n%s", c.Tenants[i].Name, diff)
		}
	}
	for _, want := range []string{"name: phishing\n              refresh_interval: 2h\n", "name: c2\n              refresh_interval: 5m\n              max_age: 1h\n"} {
		if text := c.String(); !strings.Contains(text, want) {
			t.Errorf("configuration in force lacks %q:\n%s", want, text)
		}
	}
}

func TestEmptyListEqualsNoList(t *testing.T) {
	load := func(domains string) *Tenant {
		c, problems := newValidator(Overrides{}).parse("mde.yml", []byte("tenants:\n- {name: a, azuread: {managed_identity: {}}"+domains+"}\n"))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return c.Tenants[0]
	}
	for _, empty := range []string{", watched_domains: {domains: [], files: [], lists: []}", ", watched_domains: {}", ", watched_domains: null"} {
		if !load("").Equal(load(empty)) {
			t.Errorf("%q differs from no watched_domains", empty)
		}
	}
}

func TestAllYieldsEveryCollector(t *testing.T) {
	var c Collectors
	var got []string
	for name, section := range c.All() {
		got = append(got, fmt.Sprintf("%s %T", name, section))
		section.Common().Enabled = true
	}
	want := []string{"security_states *states.Config", "watched_domains *domains.Config", "scores *scores.Config", "alerts *alerts.Config"}
	if !slices.Equal(got, want) || !c.SecurityStates.Enabled || !c.WatchedDomains.Enabled {
		t.Errorf("got %q", got)
	}
}
