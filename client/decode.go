package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
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
	maxEntity    = 16 << 20 // The texts of one entity.
	maxDepth     = 64       // Objects and arrays within each other.

	// spelledToken is how long the longest token is with its quotes and a comma
	// or colon. White space counts, too.
	spelledToken int64 = maxToken + 3
)

// A decoder reads the JSON of an answer from front to back. It keeps its first
// error, after which no member and no element follows and every other method
// does nothing, so that whoever reads looks at err once, at the end:
//
//	for d.object(); d.member(); {
//		switch string(d.name) {
//		case "build":
//			state.Build = d.text()
//		default:
//			d.skip()
//		}
//	}
type decoder struct {
	err  error
	name []byte // Of the member whose value is next.
	ids  uint64 // The sum of the ids read from the answer.

	json   jsontext.Decoder
	input  input
	texts  []byte // Of the current entity.
	absent bool   // The object that was asked for is null: it has no members.
	// refusal is the error that the answer holds although its status is 200.
	refusal *serviceError

	unquoted []byte        // Holds the name where it was spelled with escapes.
	elements [maxDepth]int // Of the lists that are being skipped.
}

// open begins a new answer.
func (d *decoder) open(a *answer) {
	d.err, d.ids, d.absent, d.refusal = nil, 0, false, nil
	d.json.Reset(&d.input, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	d.err = d.input.open(a, &d.json)
}

// object enters the object that is next. Null is an object without members.
func (d *decoder) object() {
	switch d.kind() {
	case jsontext.KindBeginObject:
		d.delimiter()
	case jsontext.KindNull:
		d.skip()
		d.absent = d.err == nil
	default:
		d.mismatch("an object")
	}
}

// member reads the name of the next member, or leaves the object after its last.
func (d *decoder) member() bool {
	if d.absent || d.err != nil {
		d.absent = false
		return false
	}
	if d.kind() == jsontext.KindEndObject {
		d.delimiter()
		return false
	}
	name, err := d.json.ReadValue()
	if err != nil || len(name) > maxToken+len(`""`) {
		d.failToken(err)
		return false
	}
	if d.name = name[1 : len(name)-1]; bytes.IndexByte(d.name, '\\') >= 0 {
		d.unquoted = appendText(d.unquoted[:0], name)
		d.name = d.unquoted
	}
	return true
}

// array enters the array that is next.
func (d *decoder) array() {
	if d.kind() != jsontext.KindBeginArray {
		d.mismatch("an array")
		return
	}
	d.delimiter()
}

// element tells whether another element is next, or leaves the array after its
// last.
func (d *decoder) element() bool {
	switch d.kind() {
	case jsontext.KindEndArray:
		d.delimiter()
		return false
	case jsontext.KindInvalid:
		d.delimiter() // Meets the error.
		return false
	default:
		return d.err == nil
	}
}

// entity begins a new entity: the texts of the last one are gone.
func (d *decoder) entity() { d.texts = d.texts[:0] }

// text reads a string or a number as it is spelled. Anything else is empty.
func (d *decoder) text() []byte {
	switch d.kind() {
	case jsontext.KindString, jsontext.KindNumber:
		value, err := d.json.ReadValue()
		if err != nil || len(value) > maxToken+len(`""`) {
			d.failToken(err)
			return nil
		}
		if len(d.texts)+len(value) > maxEntity {
			d.fail(fmt.Sprintf("the texts of one entity have more than %d bytes", maxEntity))
			return nil
		}
		start := len(d.texts)
		d.texts = appendText(d.texts, value)
		return d.texts[start:len(d.texts):len(d.texts)]
	default:
		d.skip()
		return nil
	}
}

// list reads the strings of an array into a slice that is used again. Anything
// else is an empty list.
func (d *decoder) list(reuse [][]byte) [][]byte {
	reuse = reuse[:0]
	if d.kind() != jsontext.KindBeginArray {
		d.skip()
		return reuse
	}
	elements := 0
	for d.array(); d.element(); {
		d.countElement(&elements)
		if text := d.text(); len(text) > 0 {
			reuse = append(reuse, text)
		}
	}
	return reuse
}

// countElement fails where a list has too many elements.
func (d *decoder) countElement(elements *int) {
	if *elements++; *elements > maxElements {
		d.fail(fmt.Sprintf("a list has more than %d elements", maxElements))
	}
}

// failToken fails because of the error of a token, or because it is too long.
func (d *decoder) failToken(err error) {
	if d.err = err; err == nil {
		d.fail(fmt.Sprintf("a string or number is longer than %d bytes", maxToken))
	}
}

// flag reads True or False, which the APIs send as strings, whether it comes as a
// string or as a boolean.
func (d *decoder) flag() []byte {
	switch d.kind() {
	case jsontext.KindTrue:
		d.skip()
		return []byte("True")
	case jsontext.KindFalse:
		d.skip()
		return []byte("False")
	default:
		return d.text()
	}
}

// time reads a time of RFC 3339, which is UTC where it has no zone. Anything
// else, and the year 0001 in which the APIs date what never happened, is the
// zero time.
func (d *decoder) time() time.Time {
	t, _ := d.timeOrNever()
	return t
}

// timeOrNever reads a time as d.time does, and tells the year 0001 from no time.
func (d *decoder) timeOrNever() (t time.Time, never bool) {
	text := d.text()
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
func (d *decoder) id() (MachineID, []byte) {
	text := d.text()
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

// skip reads a value nobody wants, within the same bounds as one that is wanted.
func (d *decoder) skip() {
	if d.err != nil {
		return
	}
	start := d.json.InputOffset()
	for depth := 0; ; {
		token, err := d.json.ReadToken()
		end := d.json.InputOffset()
		if err != nil || end-start > spelledToken {
			d.failToken(err)
			return
		}
		start = end
		switch token.Kind() {
		case jsontext.KindBeginObject, jsontext.KindBeginArray:
			if d.json.StackDepth() > maxDepth {
				d.fail(fmt.Sprintf("objects and arrays are nested deeper than %d", maxDepth))
				return
			}
			d.elements[depth] = 0
			if token.Kind() == jsontext.KindBeginObject {
				d.elements[depth] = math.MinInt // An object may have more.
			}
			depth++
			continue
		case jsontext.KindEndObject, jsontext.KindEndArray:
			depth--
		}
		if depth == 0 {
			return
		}
		if d.countElement(&d.elements[depth-1]); d.err != nil {
			return
		}
	}
}

// A serviceError is what a service says of an error.
type serviceError struct{ code, message string }

// isError reports whether the member that is next is how the services spell an
// error, whatever the status, and reads it then.
func (d *decoder) isError() bool {
	if string(d.name) != "error" && string(d.name) != "odata.error" {
		return false
	}
	switch d.kind() {
	case jsontext.KindNull:
		d.skip()
		return true
	case jsontext.KindBeginObject:
	default:
		d.refusal = &serviceError{message: string(d.text())}
		return true
	}
	d.refusal = &serviceError{}
	for d.object(); d.member(); {
		switch string(d.name) {
		case "code":
			d.refusal.code = string(d.text())
		case "message":
			d.refusal.message = string(d.text())
		default:
			d.skip()
		}
	}
	return true
}

// end makes sure that nothing follows the answer, which thereby is read whole, and
// that it holds no error.
func (d *decoder) end() {
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

// kind tells what is next. It is invalid after an error.
func (d *decoder) kind() jsontext.Kind {
	if d.err != nil {
		return jsontext.KindInvalid
	}
	return d.json.PeekKind()
}

// delimiter reads one token, whatever it is.
func (d *decoder) delimiter() {
	if d.err != nil {
		return
	}
	_, d.err = d.json.ReadToken()
}

// mismatch fails because something else is next than what was asked for, or
// because the JSON ends or breaks here.
func (d *decoder) mismatch(wanted string) {
	kind := d.kind()
	if kind == jsontext.KindInvalid {
		d.delimiter()
		return
	}
	d.fail(fmt.Sprintf("%s is where %s should be", kind, wanted))
}

// fail keeps an error of this package's making, unless there is one already.
func (d *decoder) fail(message string) {
	if d.err == nil {
		d.err = errors.New(message)
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

// appendText appends what a JSON string or number spells.
func appendText(dst []byte, value jsontext.Value) []byte {
	if value[0] != '"' {
		return append(dst, value...)
	}
	if text := value[1 : len(value)-1]; bytes.IndexByte(text, '\\') < 0 {
		return append(dst, text...)
	}
	// The decoder has checked the syntax: what can be wrong is an unpaired
	// surrogate, which becomes U+FFFD.
	dst, _ = jsontext.AppendUnquote(dst, value)
	return dst
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
// when it holds no complete token, so what it holds then is the size of one.
func (in *input) Read(p []byte) (int, error) {
	switch {
	case in.err != nil:
	case in.read-in.json.InputOffset() > spelledToken:
		in.err = fmt.Errorf("a string or number is longer than %d bytes", maxToken)
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
