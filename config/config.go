// Package config parses and validates the configuration file, the environment and
// flags. It makes no network call.
package config

import (
	"context"
	"path/filepath"
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// Config is a valid configuration. It is immutable.
type Config struct {
	// Tenants are in the order of the file. The file's global settings are merged into
	// them. Their names are unique.
	Tenants []*Tenant

	warnings Problems
}

// Overrides are settings from flags.
type Overrides struct {
	// WatchedDomains are added to every tenant's list.
	WatchedDomains []string
	// Getenv looks up the variables of the platform's managed identity. Nil means
	// os.Getenv.
	Getenv func(string) string
}

// Load reads and validates the configuration file at path, its tenant files and the TLS
// files they name. The error is Problems with all mistakes. Load does not read
// credential files and watch lists: the client and the collectors read them repeatedly
// and continue if some have mistakes. Check reads them too.
func Load(path string, o Overrides) (*Config, error) {
	c, problems := load(path, newValidator(o))
	if len(problems) > 0 {
		return nil, problems.sorted(path)
	}
	return c, nil
}

// Parse is Load for configuration text without a file.
func Parse(text string, o Overrides) (*Config, error) {
	c, problems := newValidator(o).parse("", []byte(text))
	return c, problems.err()
}

// Check reads and validates the configuration file at path and every file it names. The
// error is Problems with all mistakes. The warnings are probable mistakes that do not
// prevent using the configuration.
func Check(path string, o Overrides) (warnings Problems, err error) {
	v := newValidator(o)
	v.read = map[string]bool{}
	c, problems := load(path, v)
	return c.warnings.sorted(path), problems.sorted(path).err()
}

// maxConfigBytes is the maximum size of a configuration file and of a file of
// certificates.
const maxConfigBytes = 16 << 20

// load returns the valid parts of the file and all mistakes. The configuration must not
// be used if there are any.
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

// parse is load for data that has been read. File is for messages.
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
	v.addDecodeError(doc, root.Decode(&sections))
	top := position{doc: doc}
	at := top.key(global)
	v.absolute(at.key("azuread"), &sections.Global.AzureAD)
	v.absoluteTLS(at.key("http_config.tls_config"), &sections.Global.HTTPConfig.TLSConfig)
	validated := sections.Global.settingsSection // Tenants inherit the file's values, not the validated ones.
	v.validate(at, &validated)

	var places []position
	add := func(at position, node *yaml.Node) {
		at.global, at.base = doc, at.path
		section := newTenant(sections.Global)
		section.AzureAD = section.AzureAD.inherited(at.key("azuread"))
		section.inherit(&validated.Collectors)
		v.addDecodeError(at.doc, node.Decode(&section))
		c.Tenants, places = append(c.Tenants, v.tenant(at, section)), append(places, at)
	}
	for i := range sections.Tenants {
		add(top.key("tenants").index(i), &sections.Tenants[i])
	}
	tenants, files := top.key("tenants"), top.key("tenant_files")
	included := v.include(files, sections.TenantFiles, add)
	switch {
	case len(sections.Tenants)+len(included) > 0 || tenants.hasProblem() || files.hasProblem():
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

// isNull reports whether a node is empty or was rejected.
func isNull(n *yaml.Node) bool { return n.ShortTag() == "!!null" }

// MarshalYAML returns the configuration in force in the file's format, with defaults
// filled in and secrets masked.
func (c *Config) MarshalYAML() (any, error) {
	var f struct {
		Tenants []tenantSection `yaml:"tenants"`
	}
	for _, t := range c.Tenants {
		f.Tenants = append(f.Tenants, t.tenantSection)
	}
	return f, nil
}

// String returns the configuration in force as YAML with secrets masked.
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
