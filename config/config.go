// Package config turns a configuration file, the environment and flags into one
// validated value. It calls nobody and knows nothing of metrics.
package config

import (
	"context"
	"path/filepath"
	"slices"

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

// Load reads and validates the configuration file at path and the TLS files it
// names. The error is Problems, all of the mistakes at once. Credential files
// and watch lists are not read: the collectors and the client do so, again
// and again, and continue without those that have mistakes. Check reads them too.
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
	root := doc.parse(data)
	if root == nil {
		return c, doc.problems
	}

	var sections struct {
		Global  settingsSection `yaml:"global"`
		Tenants []yaml.Node     `yaml:"tenants"`
	}
	sections.Global = v.settings()
	v.typesChecked(doc, root.Decode(&sections))
	top := position{doc: doc}
	validated := sections.Global // Tenants inherit what the file has, not what follows from it.
	v.validate(top.key(global), &validated)

	if tenants := top.key("tenants"); len(sections.Tenants) == 0 && !tenants.broken() {
		tenants.problem("missing: at least one tenant is needed")
	}
	for i, node := range sections.Tenants {
		section := newTenant(sections.Global)
		section.inherit(&validated.Collectors)
		v.typesChecked(doc, node.Decode(&section))
		at := top.key("tenants").index(i)
		at.base = at.path
		if isNull(&node) && at.broken() {
			continue
		}
		c.Tenants = append(c.Tenants, v.tenant(at, section))
	}
	v.uniqueNames(top.key("tenants"), c.Tenants)
	c.warnings = doc.warnings
	return c, slices.Concat(doc.problems, v.problems)
}

// isNull tells a node that holds nothing, or nothing that could be used.
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
