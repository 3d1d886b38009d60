package client

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// jsonReader reads the tokens of JSON (RFC 8259) from front to back, each of them whole
// in a window that slides over the text. Names may occur twice in an object, and
// text need not be UTF-8. It keeps its first error, after which nothing more
// comes.
type jsonReader struct {
	err    error
	from   io.Reader
	window []byte // What was read; what is next begins at at.
	at     int
	depth  int  // Objects and arrays around what is next.
	behind bool // A value is complete: a comma or the end of what is around it must follow.
}

// windowBytes is the size of the window. Only a longer token needs more.
const windowBytes = 16 << 10

func (r *jsonReader) start(from io.Reader) {
	if r.window == nil {
		r.window = make([]byte, 0, windowBytes)
	}
	*r = jsonReader{from: from, window: r.window[:0]}
}

// fill reads more and keeps what is next. It reports false where no more comes.
func (r *jsonReader) fill() bool {
	kept := r.window[r.at:]
	if r.err == nil && len(kept) > maxToken+len(`""`) {
		r.fail(fmt.Sprintf("a string or number is longer than %d bytes", maxToken))
	}
	if r.err != nil {
		return false
	}
	if len(kept) <= cap(r.window)/2 {
		kept = append(r.window[:0], kept...)
	} else {
		kept = append(make([]byte, 0, 2*cap(r.window)), kept...)
	}
	n, err := 0, error(nil)
	for n == 0 && err == nil {
		n, err = r.from.Read(kept[len(kept):cap(kept)])
	}
	r.window, r.at = kept[:len(kept)+n], 0
	if n == 0 && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n > 0
}

// next returns the first byte of what is next, or '0' for any number. Where nothing
// is next and after an error, it is 0.
func (r *jsonReader) next() byte {
	for r.err == nil && (r.at < len(r.window) || r.fill()) {
		switch c := r.window[r.at]; c {
		case ' ', '\t', '\n', '\r':
			r.at++
		case '-', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			return '0'
		default:
			return c
		}
	}
	return 0
}

// enter goes into the object or array that is next.
func (r *jsonReader) enter() {
	r.at++
	r.behind = false
	if r.depth++; r.depth > maxDepth {
		r.fail(fmt.Sprintf("objects and arrays are nested deeper than %d", maxDepth))
	}
}

// another reports whether another member or element follows, or leaves the object
// or array, which ends with end.
func (r *jsonReader) another(end byte) bool {
	c := r.next()
	if c == ',' && r.behind {
		r.at++
		r.behind = false
		if c = r.next(); c == end {
			r.unexpected()
		}
	} else if c == end {
		r.at++
		r.depth--
		r.behind = true
		return false
	} else if r.behind || c == 0 {
		r.unexpected()
	}
	return r.err == nil
}

// string reads a string, with its quotes. It is valid until something else is read.
func (r *jsonReader) string() []byte {
	if r.next() != '"' {
		r.unexpected()
		return nil
	}
	for n := 1; ; {
		n += plainBytes(r.window[r.at+n:])
		rest := r.window[r.at+n:]
		switch {
		case len(rest) == 0, rest[0] == '\\' && len(rest) < escapeBytes(rest):
			if !r.fill() {
				r.at = len(r.window)
				r.unexpected()
				return nil
			}
		case rest[0] == '"':
			return r.token(n + 1)
		case rest[0] == '\\' && json.Valid(append(append([]byte{'"'}, rest[:escapeBytes(rest)]...), '"')):
			n += escapeBytes(rest)
		default:
			r.at += n
			r.unexpected()
			return nil
		}
	}
}

// plainName reads the name of a member and its colon, after a comma where one must
// come, if it is spelled without escapes and white space and all in the window.
// Otherwise it reads nothing and returns nil.
func (r *jsonReader) plainName() []byte {
	w, begin := r.window[r.at:], 1
	if r.behind && len(w) > 0 && w[0] == ',' {
		begin = 2
	} else if r.behind {
		return nil
	}
	if len(w) < begin || w[begin-1] != '"' || r.err != nil {
		return nil
	}
	end := begin + plainBytes(w[begin:])
	if end+1 >= len(w) || end > maxToken || w[end] != '"' || w[end+1] != ':' {
		return nil
	}
	r.at += end + 2
	r.behind = false
	return w[begin:end]
}

// plainString reads a string if it is spelled without escapes and all in the
// window, and returns what it spells. Otherwise it reads nothing and returns nil.
func (r *jsonReader) plainString() []byte {
	w := r.window[r.at:]
	if len(w) == 0 || w[0] != '"' || r.behind || r.err != nil {
		return nil
	}
	end := 1 + plainBytes(w[1:])
	if end >= len(w) || end > maxToken || w[end] != '"' {
		return nil
	}
	r.at += end + 1
	r.behind = true
	return w[1:end]
}

// escapeBytes is the length of an escape sequence.
func escapeBytes(b []byte) int {
	if len(b) > 1 && b[1] == 'u' {
		return len(`\u0000`)
	}
	return len(`\n`)
}

// plainBytes is how many bytes come before a quote, a backslash or a control
// character. It looks at eight at once.
func plainBytes(b []byte) int {
	const each, top = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(b); n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		quote, backslash := x^each*'"', x^each*'\\'
		if found := ((x-each*' ')&^x | (quote-each)&^quote | (backslash-each)&^backslash) & top; found != 0 {
			return n + bits.TrailingZeros64(found)/8
		}
	}
	for ; n < len(b) && b[n] >= ' ' && b[n] != '"' && b[n] != '\\'; n++ {
	}
	return n
}

// number reads a number. It is valid until something else is read.
func (r *jsonReader) number() []byte {
	n, digits := 0, true
	for r.at+n < len(r.window) || r.fill() && r.at+n < len(r.window) {
		c := r.window[r.at+n]
		if c < '0' || c > '9' {
			if c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E' {
				break
			}
			digits = false
		}
		n++
	}
	number := r.token(n)
	if r.err == nil && (!digits || number[0] == '0') && !json.Valid(number) {
		r.fail(fmt.Sprintf("invalid character in the number %.20s", number))
	}
	return number
}

// token takes the next n bytes, which are a whole token.
func (r *jsonReader) token(n int) []byte {
	if n > maxToken+len(`""`) {
		r.fail(fmt.Sprintf("a string or number is longer than %d bytes", maxToken))
	}
	token := r.window[r.at : r.at+n : r.at+n]
	r.at += n
	r.behind = true
	return token
}

// literal reads true, false or null.
func (r *jsonReader) literal() {
	word := "null"
	switch r.next() {
	case 't':
		word = "true"
	case 'f':
		word = "false"
	}
	for len(r.window)-r.at < len(word) && r.fill() {
		continue
	}
	if rest := r.window[r.at:]; !bytes.HasPrefix(rest, []byte(word)) {
		if bytes.HasPrefix([]byte(word), rest) {
			r.at = len(r.window)
		}
		r.unexpected()
		return
	}
	r.token(len(word))
}

// skip reads a value nobody wants, within the same bounds as one that is wanted.
func (r *jsonReader) skip() {
	if r.plainString() != nil {
		return
	}
	switch r.next() {
	case '"':
		r.string()
	case '0':
		r.number()
	case '{':
		for r.enter(); ; r.skip() {
			if r.plainName() == nil {
				if !r.another('}') {
					return
				}
				r.string()
				r.colon()
			}
		}
	case '[':
		elements := 0
		for r.enter(); r.another(']'); {
			r.countElement(&elements)
			r.skip()
		}
	default:
		r.literal()
	}
}

func (r *jsonReader) colon() {
	if r.next() != ':' {
		r.unexpected()
		return
	}
	r.at++
	r.behind = false
}

// countElement fails where a list has too many elements.
func (r *jsonReader) countElement(elements *int) {
	if *elements++; *elements > maxElements {
		r.fail(fmt.Sprintf("a list has more than %d elements", maxElements))
	}
}

// unexpected fails because of what is next.
func (r *jsonReader) unexpected() {
	switch {
	case r.err != nil:
	case r.at < len(r.window):
		r.fail(fmt.Sprintf("invalid character %q", r.window[r.at]))
	default:
		r.err = io.ErrUnexpectedEOF
	}
}

// fail keeps an error of this package's making, unless there is one already.
func (r *jsonReader) fail(message string) {
	if r.err == nil {
		r.err = errors.New(message)
	}
}
