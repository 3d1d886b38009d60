package config

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// position is the place of a value in a document, such as "tenants[0].name".
type position struct {
	doc  *document
	path string
	// global is the document whose section "global" may hold what the tenant around
	// the value does not set, nil where there is no tenant. Base is the tenant's path.
	global *document
	base   string
	// names, where it is set, says what an operator calls a value that does
	// not come from a file: a variable or a flag.
	names map[string]string
}

// global is the path of the section whose keys every tenant inherits.
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

// set reports whether the file holds a value for exactly this position.
func (p position) set() bool {
	_, ok := p.doc.lines[p.path]
	return ok && !p.doc.empty[p.path]
}

// sets reports whether the file holds a value for one of the keys.
func (p position) sets(keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return p.key(key).set() })
}

// origin is where the position's value comes from: itself, or the global
// section if the value stands only there.
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

// problem notes a mistake at the position, or at the nearest one around it that
// has a line. Of several mistakes in one value only the first is kept: the
// others follow from it.
func (p position) problem(format string, args ...any) {
	p = p.origin()
	if p.doc.judged[p.path] || p.rejected() {
		return
	}
	if p.doc.judged == nil {
		p.doc.judged = map[string]bool{}
	}
	p.doc.judged[p.path] = true
	p.problemAt(p.line(), format, args...)
}

func (p position) problemAt(line int, format string, args ...any) {
	p.doc.problems = append(p.doc.problems, Problem{
		File: p.doc.file, Line: line, Key: p.name(), Message: fmt.Sprintf(format, args...),
	})
}

// warn is problem for what is probably a mistake, but can be used.
func (p position) warn(message string) {
	p = p.origin()
	if !slices.ContainsFunc(p.doc.warnings, func(q Problem) bool { return q.Key == p.name() }) {
		p.doc.warnings = append(p.doc.warnings, Problem{File: p.doc.file, Line: p.line(), Key: p.name(), Message: message})
	}
}

// broken reports whether a mistake was noted at the position or below it.
func (p position) broken() bool {
	return slices.ContainsFunc(p.doc.problems, func(q Problem) bool {
		return q.Key == p.path || strings.HasPrefix(q.Key, p.path+".") || strings.HasPrefix(q.Key, p.path+"[")
	})
}

// rejected reports whether a value around the position was.
func (p position) rejected() bool {
	for path := range p.around() {
		if p.doc.rejected[path] {
			return true
		}
	}
	return false
}

// around yields the paths of the position and of the values around it.
func (p position) around() iter.Seq[string] {
	return func(yield func(string) bool) {
		for path := p.path; yield(path) && path != ""; {
			path = path[:max(0, strings.LastIndexAny(path, ".["))]
		}
	}
}

// name is what an operator calls the position.
func (p position) name() string {
	if name, ok := p.names[p.path]; ok {
		return name
	}
	return p.path
}

// line is the line of the position's key, or of the nearest one around it.
func (p position) line() int {
	for path := range p.around() {
		if line, ok := p.doc.lines[path]; ok {
			return line
		}
	}
	return 0
}
