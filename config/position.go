package config

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// position is the path of a value in a document, such as "tenants[0].name".
type position struct {
	doc  *document
	path string
	// global is the document whose section "global" provides the values that the tenant
	// does not set. It is nil outside a tenant. Base is the tenant's path.
	global *document
	base   string
	// names maps paths to the variables and flags that set the values. It is nil if
	// they come from a file.
	names map[string]string
}

// global is the path of the section that every tenant inherits.
const global = "global"

func (p position) key(name string) position {
	if p.path != "" {
		name = p.path + "." + name
	}
	p.path = name
	return p
}

func (p position) index(i int) position {
	p.path = fmt.Sprintf("%s[%d]", p.path, i)
	return p
}

// set reports whether the file has a value at exactly this position.
func (p position) set() bool {
	_, ok := p.doc.lines[p.path]
	return ok && !p.doc.empty[p.path]
}

// sets reports whether the file has a value for one of the keys.
func (p position) sets(keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return p.key(key).set() })
}

// origin returns the position that the value comes from: itself, or the global section
// if only that has the value.
func (p position) origin() position {
	if p.global != nil && !p.set() {
		inherited := position{doc: p.global, path: global}
		if key := strings.TrimPrefix(strings.TrimPrefix(p.path, p.base), "."); key != "" {
			inherited = inherited.key(key)
		}
		if inherited.set() {
			return inherited
		}
	}
	return p
}

// problem reports a mistake at the position, with the line of the nearest ancestor that
// has one. Only the first mistake of a value is reported, because the others are
// consequences.
func (p position) problem(format string, args ...any) {
	p = p.origin()
	if p.doc.reported[p.path] || p.rejected() {
		return
	}
	if p.doc.reported == nil {
		p.doc.reported = map[string]bool{}
	}
	p.doc.reported[p.path] = true
	p.problemAt(p.line(), format, args...)
}

func (p position) problemAt(line int, format string, args ...any) {
	p.doc.problems = append(p.doc.problems, Problem{
		File: p.doc.file, Line: line, Key: p.name(), Message: fmt.Sprintf(format, args...),
	})
}

// warn reports a probable mistake that does not prevent using the value.
func (p position) warn(message string) {
	p = p.origin()
	if !slices.ContainsFunc(p.doc.warnings, func(q Problem) bool { return q.Key == p.name() }) {
		p.doc.warnings = append(p.doc.warnings, Problem{File: p.doc.file, Line: p.line(), Key: p.name(), Message: message})
	}
}

// hasProblem reports whether there is a mistake at or below the position.
func (p position) hasProblem() bool {
	return slices.ContainsFunc(p.doc.problems, func(q Problem) bool {
		return q.Key == p.path || strings.HasPrefix(q.Key, p.path+".") || strings.HasPrefix(q.Key, p.path+"[")
	})
}

// rejected reports whether the value or an ancestor was rejected.
func (p position) rejected() bool {
	for path := range p.ancestors() {
		if p.doc.rejected[path] {
			return true
		}
	}
	return false
}

// ancestors yields the paths of the position and of the values that contain it.
func (p position) ancestors() iter.Seq[string] {
	return func(yield func(string) bool) {
		for path := p.path; yield(path) && path != ""; {
			path = path[:max(0, strings.LastIndexAny(path, ".["))]
		}
	}
}

// name returns the operator's name for the position.
func (p position) name() string {
	if name, ok := p.names[p.path]; ok {
		return name
	}
	return p.path
}

// line returns the line of the position's key, or of the nearest ancestor with a line.
func (p position) line() int {
	for path := range p.ancestors() {
		if line, ok := p.doc.lines[path]; ok {
			return line
		}
	}
	return 0
}
