package config_test

import (
	"strings"
	"testing"

	"github.com/mde-exporter/mde_exporter/config"
)

func TestValuesAtTheirLimits(t *testing.T) {
	tenant := func(name, keys string) string {
		return "tenants:\n- name: " + name + "\n  azuread: {oauth: " + oauth + "}\n" + keys
	}
	for name, tc := range map[string]struct {
		file, problem string
	}{
		"one call":                      {tenant("a", "  quota: {calls_per_minute: 1, calls_per_hour: 1}\n"), ""},
		"no calls per minute":           {tenant("a", "  quota: {calls_per_minute: 0}\n"), "calls_per_minute: 0 is not between"},
		"maximum calls":                 {tenant("a", "  quota: {calls_per_minute: 100000, calls_per_hour: 100000}\n"), ""},
		"too many calls per hour":       {tenant("a", "  quota: {calls_per_hour: 100001}\n"), "calls_per_hour: 100001 is not between"},
		"max_age equal to the interval": {tenant("a", "  security_states: {refresh_interval: 1h, max_age: 1h}\n"), ""},
		"a shorter max_age":             {tenant("a", "  security_states: {refresh_interval: 1h, max_age: 59m}\n"), "shorter than refresh_interval"},
		"a name of 128 bytes":           {tenant(strings.Repeat("a", 128), ""), ""},
		"a name of 129 bytes":           {tenant(strings.Repeat("a", 129), ""), "longer than 128 bytes"},
		"one TLS version":               {tenant("a", "  http_config: {tls_config: {min_version: TLS12, max_version: TLS12}}\n"), ""},
		"TLS versions out of order":     {tenant("a", "  http_config: {tls_config: {min_version: TLS13, max_version: TLS12}}\n"), "max_version"},
	} {
		_, err := config.Parse(tc.file, config.Overrides{})
		if tc.problem == "" && err != nil || tc.problem != "" && (err == nil || !strings.Contains(err.Error(), tc.problem)) {
			t.Errorf("%s: error %v, want %q", name, err, tc.problem)
		}
	}
}
