package config

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// marker is a secret that an operator put in the wrong place.
const marker = "hush~8Qz"

// templates are configuration files in which keys and values are between ‹ and ›. Keys
// of paths are omitted, since messages contain file names.
var templates = map[string]string{
	"block style": `‹global›:
  ‹request_timeout›: ‹30s›
  ‹security_states›:
    ‹enabled›: ‹true›
    ‹source›: ‹auto›
    ‹refresh_interval›: ‹10m›
    ‹max_age›: ‹30m›
  ‹watched_domains›:
    ‹domains›:
    - ‹a.example›
    - ‹b.example›
    ‹lists›:
    - ‹name›: ‹c2›
      ‹refresh_interval›: ‹15m›
      ‹max_age›: ‹45m›
      ‹domains›: [‹c.example›]
    ‹machine_info_limit›: ‹3›
  ‹quota›:
    ‹calls_per_minute›: ‹50›
‹tenants›:
- ‹name›: ‹contoso›
  ‹azuread›:
    ‹cloud›: ‹AzurePublic›
    ‹oauth›:
      ‹tenant_id›: ‹11111111-1111-4111-8111-111111111111›
      ‹client_id›: ‹22222222-2222-4222-8222-222222222222›
      ‹client_secret›: ‹secret›
  ‹endpoints›:
    ‹login_url›: ‹https://login.example›
    ‹api_scope›: ‹https://api.example/.default›
  ‹http_config›:
    ‹proxy_url›: ‹http://proxy.example:3128›
    ‹no_proxy›: ‹a.example›
    ‹tls_config›:
      ‹ca›: ‹none›
      ‹cert›: ‹none›
      ‹key›: ‹none›
      ‹min_version›: ‹TLS12›
      ‹server_name›: ‹x›
    ‹enable_http2›: ‹false›
- ‹name›: ‹fabrikam›
  ‹azuread›:
    ‹managed_identity›:
      ‹client_id›: ‹33333333-3333-4333-8333-333333333333›
`,
	"flow style": `{‹global›: {‹request_timeout›: ‹30s›, ‹watched_domains›: {‹domains›: [‹a.example›, ‹b.example›]}},
‹tenants›: [
  {‹name›: ‹contoso›, ‹azuread›: {‹oauth›: {‹tenant_id›: ‹11111111-1111-4111-8111-111111111111›,
    ‹client_id›: ‹22222222-2222-4222-8222-222222222222›, ‹client_secret›: ‹secret›}},
   ‹http_config›: {‹tls_config›: {‹key›: ‹none›, ‹cert›: ‹none›}, ‹proxy_url›: ‹http://proxy.example›}}]}
`,
	"anchors and merge keys": `‹global›: &g
  ‹quota›: &q {‹calls_per_minute›: ‹50›}
‹tenants›:
- &a
  ‹name›: ‹contoso›
  ‹azuread›: &ad
    ‹oauth›: &o {‹tenant_id›: ‹11111111-1111-4111-8111-111111111111›, ‹client_id›: ‹22222222-2222-4222-8222-222222222222›, ‹client_secret›: &s ‹secret›}
- <<: *a
  ‹name›: ‹b›
- <<: [*a, *g]
  ‹name›: *s
  ‹quota›: *q
`,
	"explicit keys": `? ‹tenants›
: - ? ‹name›
    : ‹contoso›
    ? ‹azuread›
    : ? ‹oauth›
      : ? ‹client_secret›
        : ‹secret›
`,
}

// variants replace a key or value. ‹› is the marker, @ the original key or value.
var variants = []string{
	"‹›", `"‹›"`, "'‹›'", "@:‹›", "@ ‹›", "@=‹›", "@: ‹›", "@:\t‹›", "\t‹›", "‹›:", "‹›: @", "@\n‹›", "@\n‹›: @", "‹›\n@", "@ #‹›",
	"|\n        ‹›", ">-\n        ‹›\n       ‹›", "|9\n ‹›", "|\n‹›", "\n        ‹›", "\n        ‹›: @", "\n  ‹›\n @", "\n\t‹›: @",
	"[‹›]", "[‹›", "[‹›: @]", "{‹›}", "{‹›: @}", "{@: ‹›}", "{@:‹›}", "{@ ‹›: x}", "{‹›", "‹›]", "‹›}", "[[‹›]]", "{? ‹›}", "{? {‹›: a} : b}", "? ‹›", "? @: ‹›", "? [‹›]", "- ‹›", "- @: ‹›",
	"*‹›", "&‹› @", "&‹›", "&‹› [*‹›]", "&‹› {<<: *‹›}", "*‹› : x", "<<: ‹›", "{<<: ‹›}", "{<<: [‹›]}", "{<<: *‹›}", "<<: *‹›",
	"!‹› @", "!‹›!x @", "!<‹›> @", "!!‹› @", "!%‹› @", "!!binary ‹›", "!!int ‹›", "!!float ‹›", "!!bool ‹›", "!!null ‹›", "!!timestamp ‹›", "!!map ‹›", "!!seq ‹›", "!!str ‹›", "!!merge ‹›", "!!binary {‹›: ‹›}", "!!set {‹›}",
	"@‹›", "`‹›", "%‹›", "\"‹›", "'‹›", `"\q‹›"`, `"\x‹›"`, `"\ud800‹›"`, "‹›\x01", "\x7f‹›", "‹›\xff", "‹›\u0080", "\x00‹›", "‹›\ufeff",
	"‹›\n---\n‹›", "---\n‹›: @", "@\n...\n‹›", "\n--- ‹›\n", "@\n%YAML ‹›\n---\n", "\n%TAG ! ‹›\n",
	"1‹›", "0x‹›", "1m‹›", "https://‹›", "https://‹›:‹›@[", "https://a.example/‹›", "http://u:‹›@proxy.example", "http://proxy.example?‹›", "ftp://‹›", "‹›@a.example", "*.‹›", "192.0.2.1/‹›", "‹›.example", "xn--‹›.example", "‹›é\u200d.example",
	`"-----BEGIN ‹›-----\nYQ==\n-----END ‹›-----\n"`, `"-----BEGIN CERTIFICATE-----\n‹›\n-----END CERTIFICATE-----\n"`, `"-----BEGIN PRIVATE KEY-----\nYQ==\n-----END PRIVATE KEY-----\n‹›"`,
	"‹›: &x {‹›: *x}", "[&x [‹›], *x, *x]", "{@: ‹›, @: ‹›}", "{@: 1, @: ‹›, ‹›: 1, ‹›: 2}",
}

// parseIn checks a file like --config.check.
func parseIn(dir, file string) (*Config, Problems) {
	v := newValidator(Overrides{Getenv: func(string) string { return "" }})
	v.dir, v.read = dir, map[string]bool{}
	return v.parse("mde.yml", []byte(file))
}

// TestMessagesDoNotQuoteTheFile puts a secret into every place of a file where an
// operator, or a mistake in indentation or quoting, might put it.
func TestMessagesDoNotQuoteTheFile(t *testing.T) {
	var checked, mistakes atomic.Int64
	dir := t.TempDir()
	t.Run("styles", func(t *testing.T) {
		for style, template := range templates {
			t.Run(style, func(t *testing.T) {
				t.Parallel()
				// Every second token is a key or a value.
				tokens := strings.Split(strings.ReplaceAll(template, "›", "‹"), "‹")
				for place := 1; place < len(tokens); place += 2 {
					for _, variant := range variants {
						with := strings.NewReplacer("‹›", marker, "@", tokens[place]).Replace(variant)
						file := strings.Join(slices.Concat(tokens[:place], []string{with}, tokens[place+1:]), "")
						c, problems := parseIn(dir, file)
						problems = slices.Concat(problems, c.warnings)
						checked.Add(1)
						if len(problems) > 0 {
							mistakes.Add(1)
						}
						if message := problems.Error(); strings.Contains(message, marker) {
							t.Errorf("place %d: message quotes %q:\n%s", place, with, message)
						}
					}
				}
			})
		}
	})
	if checked.Load() < 10_000 || mistakes.Load() < checked.Load()*9/10 {
		t.Errorf("checked %d files, %d with mistakes", checked.Load(), mistakes.Load())
	}
}

func TestSyntaxMistakesNextToSecrets(t *testing.T) {
	for file, want := range map[string]string{
		"tenants: [{azuread: {oauth: {client_secret:" + marker + "}}}]":                                            "mde.yml:1: tenants[0].azuread.oauth: unknown key: client_secret needs a colon and a space before its value; valid keys: ",
		"tenants: [{azuread: {oauth: {client_secret=" + marker + "}}}]":                                            "mde.yml:1: tenants[0].azuread.oauth: unknown key: client_secret needs a colon and a space before its value; valid keys: ",
		"tenants:\n- azuread:\n    oauth:\n      ? client_secret " + marker + "\n":                                 "mde.yml:4: tenants[0].azuread.oauth: unknown key: client_secret needs a colon and a space before its value; valid keys: ",
		"tenants:\n- azuread:\n    oauth:\n      ? client_secret: " + marker + "\n":                                "mde.yml:4: a mapping or a list is used as a key: quote text that begins with { or [, and do not begin a key with ?",
		"tenants:\n- name: contoso\n  ? {" + marker + ": b}\n  : c\n":                                              "mde.yml:3: a mapping or a list is used as a key: quote text that begins with { or [, and do not begin a key with ?",
		"tenants: [{name: {{ .Values." + marker + " }}}]":                                                          "mde.yml:1: a mapping or a list is used as a key: quote text that begins with { or [, and do not begin a key with ?",
		"tenants:\n- azuread:\n    oauth:\n      client_id: x\n      client_secret:" + marker:                      "mde.yml:5: not valid YAML: could not find expected ':': a key needs a colon and a space before its value",
		"tenants:\n- http_config:\n    tls_config:\n      key_file: a\n      key:" + marker:                        "mde.yml:5: not valid YAML: could not find expected ':': a key needs a colon and a space before its value",
		"tenants:\n- name: a\n  azuread: &x {oauth: {client_secret: *x}}\n":                                        "mde.yml:3: an anchor whose value contains itself",
		"tenants:\n- name: a\n  azuread: {oauth: {client_secret: *hush}}\n":                                        "mde.yml:3: an alias without its anchor: text that begins with * must be quoted",
		"tenants:\n- name: a\n  azuread: {oauth: {client_secret: \"" + marker + "\x01\"}}\n":                       "mde.yml:3: not UTF-8 text, or contains a control character",
		"tenants:\n- name: a\n  azuread: {oauth: {client_secret: @" + marker + "}}\n":                              "mde.yml:3: not valid YAML: text that begins with @, % or ` must be quoted",
		"tenants:\n- name: a\n  azuread: {certificate: {certificate_path: \"" + marker + "\\n" + marker + "\"}}\n": "mde.yml:3: tenants[0].azuread.certificate.certificate_path: must be the path of a file, without line breaks or control characters",
		"tenants:\n- name: a\n  azuread: {oauth: {client_secret: *" + marker + "}}\n":                              "mde.yml:3: not valid YAML: text that begins with * or & must be quoted",
	} {
		_, problems := parseIn(t.TempDir(), file)
		if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.HasPrefix(p.String(), want) }) || strings.Contains(problems.Error(), marker) {
			t.Errorf("%q: got\n%s\nwant %s", file, problems, want)
		}
	}
}

func FuzzMessagesDoNotQuoteTheFile(f *testing.F) {
	for _, template := range templates {
		plain := strings.NewReplacer("‹", "", "›", "").Replace(template)
		for at := 0; at < len(plain); at += 97 {
			f.Add(plain, uint(at))
		}
	}
	f.Fuzz(func(t *testing.T, file string, at uint) {
		if strings.Contains(file, "file") || strings.Contains(file, "path") {
			return // Messages contain file names.
		}
		i := int(at % uint(len(file)+1))
		file = file[:i] + marker + file[i:]
		c, problems := parseIn("/nonexistent", file)
		if message := slices.Concat(problems, c.warnings).Error(); strings.Contains(message, marker) {
			t.Errorf("%q:\n%s", file, message)
		}
	})
}
