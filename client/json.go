package client

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A jsonReader reads JSON from front to back through a window that slides over it. It
// accepts RFC 8259 and nothing else; a name may occur twice in an object, and a string
// need be no UTF-8 and may hold the escape of half a surrogate pair. Tests compare what
// it accepts with jsontext.
//
// begin, more, name, read and entity walk through the text. members, list and text look
// into a value:
//
//	for name, value := range r.members(object) {
//		switch string(name) {
//		case "build":
//			state.Build = r.text(value)
//		}
//	}
//
// A jsonReader keeps its first error, after which nothing follows, so that callers check
// err once, at the end. What it returns is valid until the next name, value or entity is
// read.
type jsonReader struct {
	err error

	from   io.Reader
	window []byte // What was read; what is next begins at at.
	at     int
	passed int64 // Bytes before the window.
	last   bool  // Nothing comes after the window.
	depth  int   // Objects and arrays around what is next.
	first  bool  // No member or element of the innermost came before what is next.
	absent bool  // The object that was entered is null: it has no members.

	// Of the name, value or entity that is next.
	length  int    // -1 until it was passed whole.
	escapes bool   // It holds a backslash.
	texts   []byte // Its texts that are spelled with escapes.

	guesses *[64]guess // Of the names of the next object, by their place.
}

// A guess is a name that an object had at some place, since the next one probably has
// it there, too.
type guess struct {
	spelled []byte // From the end of the value before to the value. Empty for none.
	name    []byte
}

const (
	// maxGuess is the length, as it is spelled, of the longest name that is a guess.
	maxGuess = 64
	// windowBytes is the size of the window. Only a longer value needs more. It holds
	// what an unpacker returns at once, and the part of a value before that.
	windowBytes = 64 << 10
)

// start begins to read from the front of a text.
func (r *jsonReader) start(from io.Reader) {
	if r.window == nil {
		r.window, r.guesses = make([]byte, 0, windowBytes), new([64]guess)
	}
	r.err, r.from, r.window, r.at, r.passed, r.last, r.depth, r.absent = nil, from, r.window[:0], 0, 0, false, 0, false
	r.fill()
}

// fill reads more into the window, of which what is next moves to the front. It reports
// false where no more comes.
func (r *jsonReader) fill() bool {
	rest := r.window[r.at:]
	if len(rest) > maxEntity {
		r.fail(entityTooLarge, maxEntity)
	}
	if r.err != nil || r.last {
		return false
	}
	if len(rest) > cap(r.window)/2 {
		r.window = make([]byte, len(rest), 2*cap(r.window))
	}
	r.window = r.window[:copy(r.window[:len(rest)], rest)]
	r.passed, r.at = r.passed+int64(r.at), 0
	// A value of which only a part is there is looked at again, so its part doubles.
	for enough := min(2*len(rest), cap(r.window)-1); len(r.window) <= enough && !r.last && r.err == nil; {
		n, err := r.from.Read(r.window[len(r.window):cap(r.window)])
		r.window = r.window[:len(r.window)+n]
		if r.last = err == io.EOF; !r.last {
			r.err = err
		}
	}
	return r.err == nil
}

// next returns the first byte of what is next, behind white space, and 0 at the end and
// after an error.
func (r *jsonReader) next() byte {
	for r.err == nil {
		if r.at = skipSpace(r.window, r.at); r.at < len(r.window) {
			return r.window[r.at]
		}
		if !r.fill() {
			break
		}
	}
	return 0
}

// begin enters the object or array that is next, by its first byte. Null is an object
// without members.
func (r *jsonReader) begin(bracket byte) {
	switch next := r.next(); {
	case next == bracket:
		r.at++
		r.depth++
		r.first = true
	case bracket == '[':
		r.mismatch(r.read(), "an array")
	case next == 'n':
		r.read()
		r.absent = true
	default:
		r.mismatch(r.read(), "an object")
	}
}

// more reports whether the object or array that was entered has another member or
// element, or leaves it after its last.
func (r *jsonReader) more(bracket byte) bool {
	next, first := r.next(), r.first
	r.first = false
	switch {
	case r.absent || r.err != nil:
		return false
	case next == bracket+2:
		r.at++
		r.depth--
		return false
	case first:
	case next == ',':
		r.at++
	default:
		r.unexpected(r.window[r.at:], 0)
	}
	return r.err == nil
}

// name reads the name that is next and its colon.
func (r *jsonReader) name() (name string) {
	r.entity(func(rest []byte) {
		end, value := r.skipName(rest, 0)
		if r.length = value; value >= 0 {
			name = string(r.text(rest[:end]))
		}
	})
	return name
}

// read reads the value that is next. What cannot be read is null.
func (r *jsonReader) read() []byte {
	value := []byte("null")
	r.entity(func(rest []byte) {
		if r.length = r.skip(rest, 0, r.depth); r.length >= 0 {
			value = rest[:r.length]
		}
	})
	return value
}

// entity calls decode with what begins with the object that is next. Where the window
// ends before the object does, decode is called again with more of it, and has to begin
// anew. It must walk through all members, and through those of no value within the object.
func (r *jsonReader) entity(decode func(rest []byte)) {
	for r.next(); r.err == nil; {
		r.length, r.escapes, r.texts = -1, false, r.texts[:0]
		decode(r.window[r.at:])
		if r.length > maxEntity {
			r.fail(entityTooLarge, maxEntity)
		}
		if r.length >= 0 {
			r.at += r.length
			return
		}
		if r.err == nil && !r.fill() {
			r.unexpected(nil, 0)
		}
	}
}

// members yields the names and values of an object. Null is an object without members.
func (r *jsonReader) members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if object[0] != '{' {
			if object[0] != 'n' {
				r.mismatch(object, "an object")
			}
			return
		}
		at := 1
		for n := 0; ; n++ {
			g := &r.guesses[min(n, len(r.guesses)-1)]
			name, start := g.name, at+len(g.spelled)
			if len(g.spelled) == 0 || !bytes.HasPrefix(object[at:], g.spelled) {
				quote, more := r.another(object, at, n, '}')
				if !more {
					r.length = quote
					return
				}
				var end int
				if end, start = r.skipName(object, quote); start < 0 {
					return
				}
				name = r.text(object[quote:end])
				if g.spelled = g.spelled[:0]; start-at <= maxGuess {
					g.spelled, g.name = append(g.spelled, object[at:start]...), append(g.name[:0], name...)
				}
			}
			start = skipSpace(object, start)
			at = r.skip(object, start, r.depth+1)
			if at < 0 || !yield(name, object[start:at]) {
				return
			}
		}
	}
}

// A TextList is a list of texts as the API spells it, a JSON array. Nil is an empty list.
type TextList []byte

// All yields the texts of which none is empty. A number is its decimal text; what else is
// no text is left out. They are valid as long as the list is.
func (l TextList) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(l) == 0 {
			return
		}
		r := jsonReader{escapes: true} // Its syntax was checked.
		for at, n := 1, 0; ; n++ {
			start, more := r.another(l, at, n, ']')
			if !more {
				return
			}
			at = r.skip(l, start, 0)
			if text := r.text(l[start:at]); len(text) > 0 && !yield(text) {
				return
			}
		}
	}
}

// list returns an array. Anything else is an empty list.
func (r *jsonReader) list(value []byte) TextList {
	if value[0] != '[' {
		return nil
	}
	return TextList(value)
}

// The functions below return where in a text the value or what else they pass ends, and
// -1 where it does not.

// skip passes the value that begins at a place, and checks its syntax and bounds. Depth
// is the number of objects and arrays around it.
func (r *jsonReader) skip(text []byte, at, depth int) int {
	if at == len(text) {
		return r.unexpected(text, at)
	}
	switch c := text[at]; c {
	case '"':
		return r.skipString(text, at)
	case '{', '[':
		return r.skipNested(text, at, depth)
	case 't':
		return r.skipLiteral(text, at, "true")
	case 'f':
		return r.skipLiteral(text, at, "false")
	case 'n':
		return r.skipLiteral(text, at, "null")
	default:
		return r.skipNumber(text, at)
	}
}

func (r *jsonReader) skipNested(text []byte, at, depth int) int {
	bracket := text[at]
	if depth == maxDepth {
		return r.fail("objects and arrays are nested deeper than %d", maxDepth)
	}
	at++
	for n := 0; ; n++ {
		var more bool
		if at, more = r.another(text, at, n, bracket+2); !more {
			return at
		}
		if bracket == '{' {
			_, at = r.skipName(text, at)
		} else if n == maxElements {
			return r.fail("a list has more than %d elements", maxElements)
		}
		if at >= 0 {
			at = r.skip(text, at, depth+1)
		}
		if at < 0 {
			return at
		}
	}
}

// another passes what stands before the n-th member or element, or else the bracket
// behind the last.
func (r *jsonReader) another(text []byte, at, n int, bracket byte) (next int, more bool) {
	at = skipSpace(text, at)
	if at < len(text) && text[at] == bracket {
		return at + 1, false
	}
	if n > 0 {
		if at == len(text) || text[at] != ',' {
			return r.unexpected(text, at), false
		}
		at = skipSpace(text, at+1)
	}
	return at, true
}

// skipName passes a name and what stands between it and its value.
func (r *jsonReader) skipName(text []byte, at int) (end, value int) {
	if at == len(text) || text[at] != '"' {
		return end, r.unexpected(text, at)
	}
	if end = r.skipString(text, at); end < 0 {
		return end, end
	}
	if at = skipSpace(text, end); at == len(text) || text[at] != ':' {
		return end, r.unexpected(text, at)
	}
	return end, skipSpace(text, at+1)
}

func skipSpace(text []byte, at int) int {
	for at < len(text) && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t') {
		at++
	}
	return at
}

func (r *jsonReader) skipString(text []byte, at int) int {
	end := at + 1
	for {
		end += plainBytes(text[end:])
		if end-at > maxToken+1 {
			return r.fail(textTooLong, maxToken)
		}
		if end == len(text) || text[end] < ' ' {
			return r.unexpected(text, end)
		}
		if text[end] == '"' {
			return end + 1
		}
		r.escapes = true
		if end = r.skipEscape(text, end); end < 0 {
			return end
		}
	}
}

// plainBytes is the number of bytes before a quote, a backslash or a control character.
// It looks at eight at once.
func plainBytes(text []byte) int {
	const each, top = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(text); n += 8 {
		// A byte of x-each*k has its top bit and that of x has not where it is less
		// than k, and perhaps above such a byte. The first found is right.
		x := binary.LittleEndian.Uint64(text[n:])
		quote, backslash := x^each*2, x^each*'\\' // Less than 0x21 and 1.
		if found := ((quote-each*0x21)&^quote | (backslash-each)&^backslash) & top; found != 0 {
			return n + bits.TrailingZeros64(found)/8
		}
	}
	for n < len(text) && text[n] >= ' ' && text[n] != '"' && text[n] != '\\' {
		n++
	}
	return n
}

func (r *jsonReader) skipEscape(text []byte, at int) int {
	at++
	if at == len(text) || strings.IndexByte(`"\/bfnrtu`, text[at]) < 0 {
		return r.unexpected(text, at)
	}
	if text[at] == 'u' {
		for range 4 {
			if at++; at == len(text) || strings.IndexByte("0123456789abcdefABCDEF", text[at]) < 0 {
				return r.unexpected(text, at)
			}
		}
	}
	return at + 1
}

func (r *jsonReader) skipNumber(text []byte, at int) int {
	start := at
	if text[at] == '-' {
		at++
	}
	if at < len(text) && text[at] == '0' {
		at++
	} else if at = r.skipDigits(text, at); at < 0 {
		return at
	}
	if at < len(text) && text[at] == '.' {
		if at = r.skipDigits(text, at+1); at < 0 {
			return at
		}
	}
	if at < len(text) && (text[at] == 'e' || text[at] == 'E') {
		if at++; at < len(text) && (text[at] == '+' || text[at] == '-') {
			at++
		}
		if at = r.skipDigits(text, at); at < 0 {
			return at
		}
	}
	if at-start > maxToken {
		return r.fail(textTooLong, maxToken)
	}
	if at == len(text) && !r.last {
		return r.unexpected(text, at) // There may be more of it.
	}
	return at
}

func (r *jsonReader) skipDigits(text []byte, at int) int {
	start := at
	for at < len(text) && '0' <= text[at] && text[at] <= '9' {
		at++
	}
	if at == start {
		return r.unexpected(text, at)
	}
	return at
}

func (r *jsonReader) skipLiteral(text []byte, at int, literal string) int {
	for i := range len(literal) {
		if at+i == len(text) || text[at+i] != literal[i] {
			return r.unexpected(text, at+i)
		}
	}
	return at + len(literal)
}

// text returns a string or a number as it is spelled. Anything else is empty.
func (r *jsonReader) text(value []byte) []byte {
	switch c := value[0]; {
	case c == '"':
		if text := value[1 : len(value)-1]; !r.escapes || bytes.IndexByte(text, '\\') < 0 {
			return text
		}
		// What can be wrong is an unpaired surrogate, which becomes U+FFFD.
		start := len(r.texts)
		if r.texts, _ = jsontext.AppendUnquote(r.texts, value); len(r.texts) > maxEntity {
			r.fail(entityTooLarge, maxEntity)
		}
		return r.texts[start:len(r.texts):len(r.texts)]
	case c == '-' || '0' <= c && c <= '9':
		return value
	default:
		return nil
	}
}

// mismatch fails because a value is not what was asked for.
func (r *jsonReader) mismatch(value []byte, wanted string) {
	r.fail("%s is where %s should be", jsontext.Value(value[:1]).Kind(), wanted)
}

// unexpected fails because of a character of what is next, or because it ends there.
func (r *jsonReader) unexpected(rest []byte, at int) int {
	switch {
	case at < len(rest):
		return r.fail("invalid character %q after offset %d", rest[at], r.passed+int64(r.at+at))
	case r.last && r.err == nil:
		r.err = io.ErrUnexpectedEOF
	}
	return -1
}

// fail keeps an error of this package's making, unless there is one already.
func (r *jsonReader) fail(format string, args ...any) int {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	return -1
}
