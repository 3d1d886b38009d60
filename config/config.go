// Package config turns a configuration file, the environment and flags into one
// validated value. It calls nobody and knows nothing of metrics.
package config

import (
	"context"
	"path/filepath"
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// Config is a valid configuration. It is not changed once it is loaded.
type Config struct {
	// Tenants are in the order of the file, with the file's global settings
	// merged into each of them. Their names are unique.
	Tenants []*Tenant

	warnings Problems
}

// Overrides are what flags add to a configuration.
type Overrides struct {
	// WatchedDomains are added to every tenant's list.
	WatchedDomains []string
	// Getenv looks up where the platform offers its managed identity. Nil means
	// os.Getenv.
	Getenv func(string) string
}

// Load reads and validates the configuration file at path, its tenant files and the
// TLS files that they name. The error is Problems, all of the mistakes at once.
// Credential files and watch lists are not read: the collectors and the client do so,
// again and again, and continue without those that have mistakes. Check reads them too.
func Load(path string, o Overrides) (*Config, error) {
	c, problems := load(path, newValidator(o))
	if len(problems) > 0 {
		return nil, problems.sorted(path)
	}
	return c, nil
}

// Parse is Load for a text that no file holds.
func Parse(text string, o Overrides) (*Config, error) {
	c, problems := newValidator(o).parse("", []byte(text))
	return c, problems.err()
}

// Check reads and validates the configuration file at path and every file it
// names. The error is Problems, all of the mistakes at once. Warnings are of what is
// probably a mistake; the configuration can be used nevertheless.
func Check(path string, o Overrides) (warnings Problems, err error) {
	v := newValidator(o)
	v.read = map[string]bool{}
	c, problems := load(path, v)
	return c.warnings.sorted(path), problems.sorted(path).err()
}

// maxConfigBytes bounds the configuration file, and a file of certificates.
const maxConfigBytes = 16 << 20

// load returns what can be understood of the file, and every mistake in it. The
// configuration is good for use only where there are none.
func load(path string, v *validator) (*Config, Problems) {
	data, err := readfile.Text(context.Background(), path, maxConfigBytes)
	if err != nil {
		return &Config{}, Problems{{File: path, Message: readfile.Reason(err)}}
	}
	v.dir, err = filepath.Abs(filepath.Dir(path))
	if err != nil {
		return &Config{}, Problems{{File: path, Message: readfile.Reason(err)}}
	}
	return v.parse(path, data)
}

// parse is load without the file, whose name is for messages.
func (v *validator) parse(file string, data []byte) (*Config, Problems) {
	c := &Config{}
	doc := &document{file: file}
	root := doc.parse(data, reflect.TypeFor[fileSection]())
	if root == nil {
		return c, doc.problems
	}

	var sections struct {
		Global      globalSection `yaml:"global"`
		Tenants     []yaml.Node   `yaml:"tenants"`
		TenantFiles []string      `yaml:"tenant_files"`
	}
	sections.Global = v.settings()
	v.typesChecked(doc, root.Decode(&sections))
	top := position{doc: doc}
	at := top.key(global)
	v.absolute(at.key("azuread"), &sections.Global.AzureAD)
	v.absoluteTLS(at.key("http_config.tls_config"), &sections.Global.HTTPConfig.TLSConfig)
	validated := sections.Global.settingsSection // Tenants inherit what the file has, not what follows from it.
	v.validate(at, &validated)

	var places []position
	add := func(at position, node *yaml.Node) {
		at.global, at.base = doc, at.path
		section := newTenant(sections.Global)
		section.AzureAD = section.AzureAD.inherited(at.key("azuread"))
		section.inherit(&validated.Collectors)
		v.typesChecked(at.doc, node.Decode(&section))
		c.Tenants, places = append(c.Tenants, v.tenant(at, section)), append(places, at)
	}
	for i := range sections.Tenants {
		add(top.key("tenants").index(i), &sections.Tenants[i])
	}
	tenants, files := top.key("tenants"), top.key("tenant_files")
	included := v.include(files, sections.TenantFiles, add)
	switch {
	case len(sections.Tenants)+len(included) > 0 || tenants.broken() || files.broken():
	case files.set():
		files.problem("match no file, and there are no other tenants: at least one tenant is needed")
	default:
		tenants.problem("missing: at least one tenant is needed")
	}
	uniqueNames(c.Tenants, places)
	problems := doc.problems
	c.warnings = doc.warnings
	for _, d := range included {
		problems, c.warnings = append(problems, d.problems...), append(c.warnings, d.warnings...)
	}
	return c, append(problems, v.problems...)
}

// isNull reports whether a node holds nothing, or nothing that could be used.
func isNull(n *yaml.Node) bool { return n.ShortTag() == "!!null" }

// MarshalYAML is the configuration in force, in the shape of the file, with
// every default filled in and every secret masked.
func (c *Config) MarshalYAML() (any, error) {
	var f struct {
		Tenants []tenantSection `yaml:"tenants"`
	}
	for _, t := range c.Tenants {
		f.Tenants = append(f.Tenants, t.tenantSection)
	}
	return f, nil
}

// String is the configuration in force as YAML, with every secret masked.
func (c *Config) String() string {
	return yamlText(c)
}

func yamlText(v any) string {
	text, err := yaml.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
