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

// A jsonReader reads JSON sequentially through a sliding window. It accepts RFC 8259, and
// also duplicate names, invalid UTF-8 and escapes of unpaired surrogates. Tests compare
// what it accepts with jsontext.
//
// begin, more, name, read and entity advance through the text. members, list and text
// parse a value:
//
//	for name, value := range r.members(object) {
//		switch string(name) {
//		case "build":
//			state.Build = r.text(value)
//		}
//	}
//
// A jsonReader keeps its first error and then returns no more data, so that callers check
// err once, at the end. Results are valid until the next name, value or entity is read.
type jsonReader struct {
	err error

	source io.Reader
	window []byte // Buffered text. The next token begins at at.
	at     int
	offset int64 // Bytes before the window.
	eof    bool  // The window contains the end of the text.
	depth  int   // Objects and arrays around the next token.
	first  bool  // The next token begins the innermost object or array.
	isNull bool  // The current object is null and has no members.

	// About the next name, value or entity.
	length  int    // Its size in bytes, -1 while it is incomplete.
	escapes bool   // It contains a backslash.
	texts   []byte // Its unescaped texts.

	guesses *[64]guess // The expected names of the next object, by position.
}

// A guess is the name that the previous object had at a position. The next object
// probably has it at the same position.
type guess struct {
	raw  []byte // The text between the previous value and this one. Empty for no guess.
	name []byte
}

const (
	// maxGuess is the maximum length of guess.raw.
	maxGuess = 64
	// windowBytes is the initial size of the window. It fits what an unpacker returns in
	// one read and an incomplete value before it. Only longer values need more.
	windowBytes = 64 << 10
)

// start resets the reader to the start of a text.
func (r *jsonReader) start(from io.Reader) {
	if r.window == nil {
		r.window, r.guesses = make([]byte, 0, windowBytes), new([64]guess)
	}
	r.err, r.source, r.window, r.at, r.offset, r.eof, r.depth, r.isNull = nil, from, r.window[:0], 0, 0, false, 0, false
	r.fill()
}

// fill moves the unread text to the front of the window and reads more. It returns false
// at the end of the text and after an error.
func (r *jsonReader) fill() bool {
	rest := r.window[r.at:]
	if len(rest) > maxEntity {
		r.fail(entityTooLarge, maxEntity)
	}
	if r.err != nil || r.eof {
		return false
	}
	if len(rest) > cap(r.window)/2 {
		r.window = make([]byte, len(rest), 2*cap(r.window))
	}
	r.window = r.window[:copy(r.window[:len(rest)], rest)]
	r.offset, r.at = r.offset+int64(r.at), 0
	// An incomplete value is scanned again, so at least double its part.
	for enough := min(2*len(rest), cap(r.window)-1); len(r.window) <= enough && !r.eof && r.err == nil; {
		n, err := r.source.Read(r.window[len(r.window):cap(r.window)])
		r.window = r.window[:len(r.window)+n]
		if r.eof = err == io.EOF; !r.eof {
			r.err = err
		}
	}
	return r.err == nil
}

// peek returns the first byte of the next token after white space, and 0 at the end and
// after an error.
func (r *jsonReader) peek() byte {
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

// begin enters the next object or array; bracket is its first byte. Null is an object
// without members.
func (r *jsonReader) begin(bracket byte) {
	switch next := r.peek(); {
	case next == bracket:
		r.at++
		r.depth++
		r.first = true
	case bracket == '[':
		r.mismatch(r.read(), "an array")
	case next == 'n':
		r.read()
		r.isNull = true
	default:
		r.mismatch(r.read(), "an object")
	}
}

// more reports whether the current object or array has another member or element. It
// leaves the object or array after the last one.
func (r *jsonReader) more(bracket byte) bool {
	next, first := r.peek(), r.first
	r.first = false
	switch {
	case r.isNull || r.err != nil:
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

// name reads the next name and its colon.
func (r *jsonReader) name() (name string) {
	r.entity(func(rest []byte) {
		end, value := r.skipName(rest, 0)
		if r.length = value; value >= 0 {
			name = string(r.text(rest[:end]))
		}
	})
	return name
}

// read reads the next value. It returns null after an error.
func (r *jsonReader) read() []byte {
	value := []byte("null")
	r.entity(func(rest []byte) {
		if r.length = r.skip(rest, 0, r.depth); r.length >= 0 {
			value = rest[:r.length]
		}
	})
	return value
}

// entity calls decode with the text that begins with the next object. If the window does
// not contain the whole object, entity reads more and calls decode again from the start.
// decode must iterate over all members of the object, and not over those of its values.
func (r *jsonReader) entity(decode func(rest []byte)) {
	for r.peek(); r.err == nil; {
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
			name, start := g.name, at+len(g.raw)
			if len(g.raw) == 0 || !bytes.HasPrefix(object[at:], g.raw) {
				quote, more := r.nextElement(object, at, n, '}')
				if !more {
					r.length = quote
					return
				}
				var end int
				if end, start = r.skipName(object, quote); start < 0 {
					return
				}
				name = r.text(object[quote:end])
				if g.raw = g.raw[:0]; start-at <= maxGuess {
					g.raw, g.name = append(g.raw, object[at:start]...), append(g.name[:0], name...)
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

// A TextList is an encoded JSON array of texts. Nil is an empty list.
type TextList []byte

// All yields the texts that are not empty. A number is its decimal text; other values are
// skipped. The texts are valid as long as the list.
func (l TextList) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(l) == 0 {
			return
		}
		r := jsonReader{escapes: true} // Its syntax was checked.
		for at, n := 1, 0; ; n++ {
			start, more := r.nextElement(l, at, n, ']')
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

// The functions below return the offset after the element that they skip, and -1 if it is
// invalid or incomplete.

// skip skips the value at an offset and checks its syntax and limits. depth is the number
// of objects and arrays around it.
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
		if at, more = r.nextElement(text, at, n, bracket+2); !more {
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

// nextElement skips the comma and white space before the n-th member or element, or the
// closing bracket after the last one.
func (r *jsonReader) nextElement(text []byte, at, n int, bracket byte) (next int, more bool) {
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

// skipName skips a name, the colon and white space. It returns the end of the name and
// the start of its value.
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

// plainBytes returns the number of bytes before a quote, a backslash or a control
// character. It checks eight bytes at a time.
func plainBytes(text []byte) int {
	const each, top = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(text); n += 8 {
		// The top bit of a byte is set in x-each*k and not in x if the byte is less than k.
		// A borrow may also set it in higher bytes, so only the lowest match is reliable.
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
	if at == len(text) && !r.eof {
		return r.unexpected(text, at) // The number may continue.
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

// text returns an unescaped string, or a number as it was sent. Any other value is empty.
func (r *jsonReader) text(value []byte) []byte {
	switch c := value[0]; {
	case c == '"':
		if text := value[1 : len(value)-1]; !r.escapes || bytes.IndexByte(text, '\\') < 0 {
			return text
		}
		// The only possible error is an unpaired surrogate, which becomes U+FFFD.
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

// mismatch fails because a value has another type than wanted.
func (r *jsonReader) mismatch(value []byte, wanted string) {
	r.fail("unexpected %s, want %s", jsontext.Value(value[:1]).Kind(), wanted)
}

// unexpected fails because of the character at an offset, or because the text ends there.
// If there may be more text, it does not fail, and entity reads more.
func (r *jsonReader) unexpected(rest []byte, at int) int {
	switch {
	case at < len(rest):
		return r.fail("invalid character %q after offset %d", rest[at], r.offset+int64(r.at+at))
	case r.eof && r.err == nil:
		r.err = io.ErrUnexpectedEOF
	}
	return -1
}

// fail sets the error, unless there is one already.
func (r *jsonReader) fail(format string, args ...any) int {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	return -1
}
