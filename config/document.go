package config

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// document is a YAML file with the line of each key and the mistakes found so far.
type document struct {
	file  string
	data  []byte
	lines map[string]int
	// empty are the keys without a value.
	empty map[string]bool
	// reported are the paths with a problem.
	reported map[string]bool
	// rejected are the paths of values of the wrong type. Problems below them are
	// consequences.
	rejected map[string]bool
	problems Problems
	warnings Problems
}

// parse parses data as one YAML document and checks the syntax, unknown and duplicate
// keys and types against shape. It records mistakes and removes the values, so that the
// rest can be decoded and validated. It returns nil if the data is not YAML.
func (d *document) parse(data []byte, shape reflect.Type) *yaml.Node {
	d.data, d.lines, d.empty, d.rejected = data, map[string]int{}, map[string]bool{}, map[string]bool{}
	if line := notText(data); line > 0 {
		d.problems = append(d.problems, Problem{File: d.file, Line: line, Message: "not UTF-8 text, or contains a control character"})
		return nil
	}
	var root yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		root = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1}
	case err != nil:
		d.yamlProblems(err)
		return nil
	}
	var next yaml.Node
	switch err := decoder.Decode(&next); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.yamlProblems(err)
		return nil
	default:
		d.problems = append(d.problems, Problem{File: d.file, Line: next.Line, Message: "a second YAML document: only one is allowed"})
	}
	if root.Kind == yaml.DocumentNode {
		root = *root.Content[0]
	}
	if key := keyWithoutText(&root); key != nil {
		d.problems = append(d.problems, Problem{File: d.file, Line: key.Line, Message: "a mapping or a list is used as a key: quote text that begins with { or [, and do not begin a key with ?"})
		return nil
	}
	// Decoding into any detects aliases that contain themselves or expand excessively.
	// Type errors are reported below, with the names of the keys.
	var anything any
	if err := root.Decode(&anything); err != nil {
		if _, ok := errors.AsType[*yaml.TypeError](err); !ok {
			d.yamlProblems(err)
			return nil
		}
	}
	d.checkShape(&root, shape, position{doc: d})
	return &root
}

// keyWithoutText returns the first key that is a mapping or a list, or nil.
func keyWithoutText(n *yaml.Node) *yaml.Node {
	for i, child := range n.Content {
		key := child
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if n.Kind == yaml.MappingNode && i%2 == 0 && key.Kind != yaml.ScalarNode {
			return child
		}
		if found := keyWithoutText(child); found != nil {
			return found
		}
	}
	return nil
}

// yamlProblems adds the mistakes in an error of the YAML library.
func (d *document) yamlProblems(err error) {
	messages := []string{err.Error()}
	if e, ok := errors.AsType[*yaml.TypeError](err); ok {
		messages = e.Errors
	}
	for _, message := range messages {
		line, mistake := yamlMistake(message, d.data)
		d.problems = append(d.problems, Problem{File: d.file, Line: line, Message: mistake})
	}
}

// checkShape compares a node with the type that it will be decoded into and records the
// lines of its keys. It reports mismatches and sets them to null.
func (d *document) checkShape(n *yaml.Node, t reflect.Type, at position) {
	if _, known := d.lines[at.path]; !known {
		d.lines[at.path] = n.Line
	}
	value := n
	if n.Kind == yaml.AliasNode {
		value = n.Alias
	}
	if isNull(value) {
		d.empty[at.path] = true
		return
	}
	delete(d.empty, at.path) // A merge may set a key that the mapping leaves empty.
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	reject := func(format string, args ...any) {
		at.problem(format, args...)
		d.rejected[at.path] = true
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line}
	}
	switch t.Kind() {
	case reflect.Struct:
		if value.Kind != yaml.MappingNode {
			reject("must be a mapping of keys to values")
			return
		}
		d.checkKeys(value, keysOf(t), at)
	case reflect.Slice:
		if value.Kind != yaml.SequenceNode {
			reject("must be a list")
			return
		}
		for i, item := range value.Content {
			d.checkShape(item, t.Elem(), at.index(i))
			if isNull(item) {
				// The library would drop a null item and shift the indexes of the next
				// ones.
				switch t.Elem().Kind() {
				case reflect.String:
					*item = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Line: item.Line}
				case reflect.Struct:
					*item = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: item.Line}
				}
			}
		}
	default:
		switch {
		case value.Kind != yaml.ScalarNode:
			reject("must be %s", expected(t))
		case value.Decode(reflect.New(t).Interface()) != nil:
			reject("is not %s", expected(t))
		}
	}
}

// checkKeys checks the keys of a mapping. It removes keys that are unknown, duplicate
// or without a value, and at the top level those that begin with x-. Merged keys ("<<")
// come last, so that the lines of the mapping's own keys are recorded.
func (d *document) checkKeys(n *yaml.Node, keys []structKey, at position) {
	var kept, merged []*yaml.Node
	set := map[string]int{}
	for pair := range slices.Chunk(n.Content, 2) {
		name, value := pair[0], pair[1]
		if name.ShortTag() == "!!merge" {
			if line, twice := set[name.Value]; twice {
				at.problemAt(name.Line, "<< is already set in line %d: give one << a list of aliases", line)
				continue
			}
			set[name.Value] = name.Line
			merged = append(merged, value)
			kept = append(kept, name, value)
			continue
		}
		if at.path == "" && strings.HasPrefix(name.Value, "x-") {
			continue // Allowed for YAML anchors.
		}
		known := slices.IndexFunc(keys, func(k structKey) bool { return k.name == name.Value })
		if known < 0 {
			at.problemAt(name.Line, "unknown key%s; valid keys: %s", hint(name.Value, keys), join(keys))
			continue
		}
		pos := at.key(name.Value)
		line, twice := set[name.Value]
		switch {
		case twice:
			pos.problemAt(name.Line, "already set in line %d", line)
		default:
			set[name.Value] = name.Line
			if _, known := d.lines[pos.path]; !known {
				d.lines[pos.path] = name.Line
			}
			d.checkShape(value, keys[known].typ, pos)
			if !isNull(value) {
				kept = append(kept, name, value)
			}
		}
	}
	n.Content = kept
	for _, value := range merged {
		d.checkMerged(value, keys, at)
	}
}

// checkMerged checks the keys of a merge, which is a mapping or a list of mappings.
func (d *document) checkMerged(n *yaml.Node, keys []structKey, at position) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.MappingNode:
		d.checkKeys(n, keys, at)
	case yaml.SequenceNode:
		for _, item := range n.Content {
			d.checkMerged(item, keys, at)
		}
	}
}

// hint returns the correction for an unknown key that is a valid key joined with its
// value. It does not repeat the key, which may contain a secret.
func hint(unknown string, keys []structKey) string {
	for _, key := range keys {
		if rest, ok := strings.CutPrefix(unknown, key.name); ok && strings.ContainsRune(":= \t", rune(rest[0])) {
			return ": " + key.name + " needs a colon and a space before its value"
		}
	}
	return ""
}

// structKey is a key of a section and the type of its value.
type structKey struct {
	name string
	typ  reflect.Type
}

// keysOf returns the keys of a section in order.
func keysOf(t reflect.Type) []structKey {
	var keys []structKey
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			keys = append(keys, keysOf(field.Type)...)
		case name == "-", strings.HasSuffix(name, "_ref"):
			// References into Prometheus's secret manager, which the exporter does not
			// have.
		case name != "":
			keys = append(keys, structKey{name: name, typ: field.Type})
		}
	}
	return keys
}

func join(keys []structKey) string {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = key.name
	}
	return strings.Join(names, ", ")
}

// expected describes the values of a scalar type.
func expected(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[model.Duration]():
		return "a duration such as 90s, 15m or 1d"
	case reflect.TypeFor[date]():
		return "a date such as 2027-01-31"
	case reflect.TypeFor[promconfig.TLSVersion]():
		return "one of TLS10, TLS11, TLS12, TLS13"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	default:
		return "text"
	}
}
