package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of an answer. They are far beyond what the APIs send, and keep an API
// gone mad from filling this machine's memory.
const (
	maxPageBytes = 64 << 20 // Unpacked.
	maxToken     = 1 << 20  // One string or number, as it is spelled.
	maxElements  = 10_000   // Of a list within an entity.
	maxEntity    = 16 << 20 // One entity, as it is spelled, with white space.
	maxDepth     = 64       // Objects and arrays within each other.
)

const (
	textTooLong    = "a string or number is longer than %d bytes"
	entityTooLarge = "the texts of one entity have more than %d bytes"
)

// A decoder reads the JSON of an answer from front to back. jsontext checks its syntax
// and returns names and values whole: begin, more, read and readEntity walk through the
// answer. The other methods look into a value:
//
//	for name, value := range d.members(entity) {
//		switch string(name) {
//		case "build":
//			state.Build = d.text(value)
//		}
//	}
//
// A decoder keeps its first error, after which no member and no element follows, so
// that callers check err once, at the end. What it returns is valid until the next
// name or value is read.
type decoder struct {
	err error
	ids uint64 // The sum of the ids read from the answer.

	json   jsontext.Decoder
	input  input
	absent bool // The object that was entered is null: it has no members.
	// refusal is the error that the answer holds although its status is 200.
	refusal *serviceError

	// Of the value that was read last.
	depth    int           // The objects and arrays around what is next in it.
	elements [maxDepth]int // Of those objects and arrays of it that are not yet passed.
	escapes  bool          // It holds a backslash.
	texts    []byte        // Its texts that are spelled with escapes.

	guesses [64]guess // Of the names of the next object, by their place.
}

// A guess is a name that an object had at some place, since the next one probably has
// it there, too.
type guess struct {
	spelled []byte // With quotes and what stands before it. Empty for none.
	name    []byte
}

// maxGuess is the length, as it is spelled, of the longest name that is a guess.
const maxGuess = 64

// open begins a new answer.
func (d *decoder) open(a *answer) {
	d.err, d.ids, d.absent, d.refusal = nil, 0, false, nil
	d.json.Reset(&d.input, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	d.err = d.input.open(a, &d.json)
}

// begin enters the object or array that is next. Null is an object without members.
func (d *decoder) begin(kind jsontext.Kind) {
	if d.err != nil {
		return
	}
	var next jsontext.Token
	switch next, d.err = d.json.ReadToken(); {
	case d.err != nil, next.Kind() == kind:
	case kind == jsontext.KindBeginArray:
		d.fail("%s is where an array should be", next.Kind())
	case next.Kind() == jsontext.KindNull:
		d.absent = true
	default:
		d.fail("%s is where an object should be", next.Kind())
	}
}

// more reports whether the object or array that was entered has another member or
// element, or leaves it after its last.
func (d *decoder) more() bool {
	if d.absent || d.err != nil {
		return false
	}
	switch d.json.PeekKind() {
	case jsontext.KindInvalid, jsontext.KindEndObject, jsontext.KindEndArray:
		_, d.err = d.json.ReadToken()
		return false
	default:
		return true
	}
}

// read returns the name or the value that is next. What cannot be read is null.
func (d *decoder) read() []byte {
	value := d.readEntity()
	d.end(value, 0)
	return value
}

// readEntity returns the value that is next as read does, but leaves it to members to
// check the bounds of what it holds.
func (d *decoder) readEntity() []byte {
	d.depth, d.texts = d.json.StackDepth(), d.texts[:0]
	var value jsontext.Value
	if d.err == nil {
		value, d.err = d.json.ReadValue()
	}
	if len(value) > maxEntity {
		d.fail(entityTooLarge, maxEntity)
	}
	if d.err != nil {
		return []byte("null")
	}
	d.escapes = bytes.IndexByte(value, '\\') >= 0
	return value
}

// members yields the names and values of an object. Null is an object without members.
func (d *decoder) members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if object[0] != '{' {
			if object[0] != 'n' {
				d.mismatch(object, "an object")
			}
			return
		}
		d.depth++
		at := 1
		for n := 0; ; n++ {
			g := &d.guesses[min(n, len(d.guesses)-1)]
			name := g.name
			if len(g.spelled) > 0 && bytes.HasPrefix(object[at:], g.spelled) {
				at += len(g.spelled)
			} else {
				start := at
				if at = skipSeparators(object, at); object[at] == '}' {
					d.depth--
					return
				}
				quote := at
				at = d.end(object, at)
				name = d.text(object[quote:at])
				if g.spelled = g.spelled[:0]; at-start <= maxGuess {
					g.spelled, g.name = append(g.spelled, object[start:at]...), append(g.name[:0], name...)
				}
			}
			start := skipSeparators(object, at)
			at = d.end(object, start)
			if d.err != nil || !yield(name, object[start:at]) {
				return
			}
		}
	}
}

// skipSeparators returns where the next name or value begins or the object or array
// ends. White space, commas and colons say nothing, since the syntax is right.
func skipSeparators(value []byte, at int) int {
	for {
		switch value[at] {
		case ' ', '\t', '\r', '\n', ',', ':':
			at++
		default:
			return at
		}
	}
}

// end returns where the value ends that begins at a place of another, and checks its
// bounds.
func (d *decoder) end(value []byte, at int) int {
	start := at
	switch c := value[at]; {
	case c == '"':
		at += bytes.IndexByte(value[at+1:], '"') + 2
		for value[at-2] == '\\' && isEscaped(value[start:at-1]) {
			at += bytes.IndexByte(value[at:], '"') + 1
		}
	case c == '{' || c == '[':
		return d.endNested(value, at)
	default:
		at = endLiteral(value, at)
	}
	if at-start > maxToken+len(`""`) {
		d.fail(textTooLong, maxToken)
	}
	return at
}

// isEscaped reports whether a character is escaped by what stands before it.
func isEscaped(before []byte) bool {
	return (len(before)-len(bytes.TrimRight(before, `\`)))%2 != 0
}

// endLiteral returns where the number, true, false or null ends.
func endLiteral(value []byte, at int) int {
	for ; at < len(value); at++ {
		switch value[at] {
		case ' ', '\t', '\r', '\n', ',', '}', ']':
			return at
		}
	}
	return at
}

// endNested returns where the object or array ends.
func (d *decoder) endNested(value []byte, at int) int {
	for depth := 0; d.err == nil; {
		switch c := value[at]; c {
		case '{', '[':
			at++
			if d.depth+depth == maxDepth {
				d.fail("objects and arrays are nested deeper than %d", maxDepth)
				return at
			}
			d.elements[depth] = 0
			if c == '{' {
				d.elements[depth] = math.MinInt // An object may have more.
			}
			depth++
			continue
		case '}', ']':
			at++
			if depth--; depth == 0 {
				return at
			}
		case ' ', '\t', '\r', '\n', ',', ':':
			at++
			continue
		default:
			at = d.end(value, at)
		}
		if d.elements[depth-1]++; d.elements[depth-1] > maxElements {
			d.fail("a list has more than %d elements", maxElements)
		}
	}
	return at
}

// text returns a string or a number as it is spelled. Anything else is empty.
func (d *decoder) text(value []byte) []byte {
	switch c := value[0]; {
	case c == '"':
		if text := value[1 : len(value)-1]; !d.escapes || bytes.IndexByte(text, '\\') < 0 {
			return text
		}
		// What can be wrong is an unpaired surrogate, which becomes U+FFFD.
		start := len(d.texts)
		if d.texts, _ = jsontext.AppendUnquote(d.texts, value); len(d.texts) > maxEntity {
			d.fail(entityTooLarge, maxEntity)
		}
		return d.texts[start:len(d.texts):len(d.texts)]
	case c == '-' || '0' <= c && c <= '9':
		return value
	default:
		return nil
	}
}

// list returns the strings of an array in a slice that is used again. Anything else is
// an empty list.
func (d *decoder) list(value []byte, reuse [][]byte) [][]byte {
	reuse = reuse[:0]
	if value[0] != '[' {
		return reuse
	}
	for at := skipSeparators(value, 1); value[at] != ']'; at = skipSeparators(value, at) {
		start := at
		at = d.end(value, at)
		if text := d.text(value[start:at]); len(text) > 0 {
			reuse = append(reuse, text)
		}
	}
	return reuse
}

// flag returns True or False, which the APIs send as strings, whether it is a string
// or a boolean.
func (d *decoder) flag(value []byte) []byte {
	switch value[0] {
	case 't':
		return []byte("True")
	case 'f':
		return []byte("False")
	default:
		return d.text(value)
	}
}

// time reads a time of RFC 3339, which is UTC where it has no zone. Anything
// else, and the year 0001 in which the APIs date what never happened, is the
// zero time.
func (d *decoder) time(value []byte) time.Time {
	t, _ := d.timeOrNever(value)
	return t
}

// timeOrNever reads a time as d.time does, and tells the year 0001 from no time.
func (d *decoder) timeOrNever(value []byte) (t time.Time, never bool) {
	text := d.text(value)
	if len(text) == 0 {
		return time.Time{}, false
	}
	if t.UnmarshalText(text) != nil && t.UnmarshalText(append(slices.Clone(text), 'Z')) != nil {
		return time.Time{}, false
	}
	if t.Year() <= 1 {
		return time.Time{}, true
	}
	return t, false
}

// id reads a machine's id, and returns it with its spelling.
func (d *decoder) id(value []byte) (MachineID, []byte) {
	text := d.text(value)
	id := machineID(text)
	d.ids += binary.LittleEndian.Uint64(id[:])
	return id, text
}

// machineID reads an id in either case. Only no id is the zero MachineID.
func machineID(text []byte) (id MachineID) {
	if len(text) == 0 {
		return id
	}
	if len(text) == hex.EncodedLen(len(id)) {
		if _, err := hex.Decode(id[:], text); err == nil && id != (MachineID{}) {
			return id
		}
	}
	sum := sha256.Sum256(bytes.ToLower(text))
	return MachineID(sum[:len(id)])
}

// A serviceError is what a service says of an error.
type serviceError struct{ code, message string }

// readError keeps the value of a member if its name is how the services spell an error,
// whatever the status.
func (d *decoder) readError(name string, value []byte) {
	if name != "error" && name != "odata.error" || value[0] == 'n' {
		return
	}
	d.refusal = &serviceError{}
	if value[0] != '{' {
		d.refusal.message = string(d.text(value))
		return
	}
	for name, value := range d.members(value) {
		switch string(name) {
		case "code":
			d.refusal.code = string(d.text(value))
		case "message":
			d.refusal.message = string(d.text(value))
		}
	}
}

// finish makes sure that nothing follows the answer, which thereby is read whole, and
// that it holds no error.
func (d *decoder) finish() {
	if d.refusal != nil {
		d.fail("the status is 200, but the answer holds an error")
	}
	if d.err != nil {
		return
	}
	switch _, err := d.json.ReadToken(); {
	case err == nil:
		d.fail("something follows the answer")
	case !errors.Is(err, io.EOF):
		d.err = err
	}
}

// mismatch fails because a value is not what was asked for.
func (d *decoder) mismatch(value []byte, wanted string) {
	d.fail("%s is where %s should be", jsontext.Value(value).Kind(), wanted)
}

// fail keeps an error of this package's making, unless there is one already.
func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// problem turns the error of the decoder into one that tells whose fault it is:
// the connection's or the answer's.
func (d *decoder) problem(api API) error {
	if err := d.input.answer.broken(); err != nil {
		return err
	}
	err := d.err
	if d.input.err != nil {
		err = d.input.err
	}
	message := "the answer is not what the API documents"
	switch {
	case d.input.read == 0 && d.input.err == nil:
		message = "the answer is empty"
	case d.input.html:
		message = "the answer is an HTML page, perhaps of a sign-in or of a proxy"
	}
	e := &Error{API: api, Reason: ReasonDecode, Status: http.StatusOK, Message: message, Err: err}
	if d.refusal != nil {
		e.Code = d.refusal.code
		e.Message = joinTexts("; ", d.refusal.message, message)
	}
	return e
}

// input unpacks an answer and bounds it.
type input struct {
	answer   *answer
	json     *jsontext.Decoder
	from     io.Reader
	unpacker unpacker
	read     int64
	html     bool
	err      error // Why the answer could not be unpacked, or which bound it passes.
}

func (in *input) open(a *answer, json *jsontext.Decoder) error {
	in.answer, in.json, in.from, in.read, in.err = a, json, a, 0, nil
	in.html = strings.Contains(strings.ToLower(a.header.Get("Content-Type")), "html")
	if in.from, in.err = in.unpacker.open(a, a.header); in.err != nil {
		return in.err
	}
	return in.skipByteOrderMark()
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func (in *input) skipByteOrderMark() error {
	head := make([]byte, len(byteOrderMark))
	n, err := io.ReadFull(in.from, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		in.err = err
		return err
	}
	head = bytes.TrimPrefix(head[:n], byteOrderMark)
	in.html = in.html || bytes.HasPrefix(bytes.TrimSpace(head), []byte("<"))
	in.from = io.MultiReader(bytes.NewReader(head), in.from)
	return nil
}

// Read implements io.Reader for the jsontext.Decoder. That asks for more only
// when it holds no complete value, so what it holds then is a part of one.
func (in *input) Read(p []byte) (int, error) {
	switch {
	case in.err != nil:
	case in.read-in.json.InputOffset() > maxEntity:
		in.err = fmt.Errorf(entityTooLarge, maxEntity)
	case in.read > maxPageBytes:
		in.err = fmt.Errorf("a page is larger than %d bytes", maxPageBytes)
	}
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.from.Read(p)
	in.read += int64(n)
	if err != nil && err != io.EOF {
		in.err = err
	}
	return n, err
}
