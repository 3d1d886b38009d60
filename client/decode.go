package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Bounds of an answer. They are far beyond what the APIs send, and keep an API
// gone mad from filling this machine's memory.
const (
	maxPageBytes = 64 << 20 // Unpacked.
	maxToken     = 1 << 20  // One string or number, as it is spelled.
	maxElements  = 10_000   // Of a list within an entity.
	maxEntity    = 16 << 20 // The texts of one entity.
	maxDepth     = 64       // Objects and arrays within each other.
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
	jsonReader
	name []byte // Of the member whose value is next.
	ids  uint64 // The sum of the ids read from the answer.

	input  input
	texts  []byte // Of the current entity.
	absent bool   // The object that was asked for is null: it has no members.
	// refusal is the error that the answer holds although its status is 200.
	refusal *serviceError

	copied []byte // Holds the name where it does not stand in the window.
}

// open begins a new answer.
func (d *decoder) open(a *answer) {
	d.ids, d.absent, d.refusal = 0, false, nil
	d.start(&d.input)
	d.err = d.input.open(a)
}

// object enters the object that is next. Null is an object without members.
func (d *decoder) object() {
	switch d.next() {
	case '{':
		d.enter()
	case 'n':
		d.skip()
		d.absent = d.err == nil
	default:
		d.mismatch("an object")
	}
}

// member reads the name of the next member, or leaves the object after its last.
func (d *decoder) member() bool {
	if d.absent {
		d.absent = false
		return false
	}
	if d.name = d.plainName(); d.name != nil {
		return true
	}
	if !d.another('}') {
		return false
	}
	d.copied = d.appendString(d.copied[:0]) // The window moves.
	d.name = d.copied
	d.colon()
	return d.err == nil
}

// array enters the array that is next.
func (d *decoder) array() {
	if d.next() != '[' {
		d.mismatch("an array")
		return
	}
	d.enter()
}

// element tells whether another element is next, or leaves the array after its
// last.
func (d *decoder) element() bool { return d.another(']') }

// entity begins a new entity: the texts of the last one are gone.
func (d *decoder) entity() { d.texts = d.texts[:0] }

// text reads a string or a number as it is spelled. Anything else is empty.
func (d *decoder) text() []byte {
	start := len(d.texts)
	if text := d.plainString(); text != nil {
		d.texts = append(d.texts, text...)
	} else if next := d.next(); next == '"' {
		d.texts = d.appendString(d.texts)
	} else if next == '0' {
		d.texts = append(d.texts, d.number()...)
	} else {
		d.skip()
	}
	if len(d.texts) > maxEntity {
		d.fail(fmt.Sprintf("the texts of one entity have more than %d bytes", maxEntity))
	}
	return d.texts[start:len(d.texts):len(d.texts)]
}

// appendString reads a string and appends what it spells.
func (d *decoder) appendString(dst []byte) []byte {
	if text := d.plainString(); text != nil {
		return append(dst, text...)
	}
	quoted := d.string()
	if len(quoted) == 0 {
		return dst
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return append(dst, quoted[1:len(quoted)-1]...)
	}
	var text string
	_ = json.Unmarshal(quoted, &text) // Its syntax was checked.
	return append(dst, text...)
}

// list reads the strings of an array into a slice that is used again. Anything
// else is an empty list.
func (d *decoder) list(reuse [][]byte) [][]byte {
	reuse = reuse[:0]
	if d.next() != '[' {
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

// flag reads True or False, which the APIs send as strings, whether it comes as a
// string or as a boolean.
func (d *decoder) flag() []byte {
	switch d.next() {
	case 't':
		d.skip()
		return []byte("True")
	case 'f':
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

// A serviceError is what a service says of an error.
type serviceError struct{ code, message string }

// isError reports whether the member that is next is how the services spell an
// error, whatever the status, and reads it then.
func (d *decoder) isError() bool {
	if string(d.name) != "error" && string(d.name) != "odata.error" {
		return false
	}
	switch d.next() {
	case 'n':
		d.skip()
		return true
	case '{':
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
	switch d.next() {
	case 0:
		if d.at < len(d.window) {
			d.unexpected()
		}
	case '{', '[', '"', '0', 't', 'f', 'n':
		d.fail("something follows the answer")
	default:
		d.unexpected()
	}
}

// mismatch fails because something else is next than what was asked for, or
// because the JSON ends or breaks here.
func (d *decoder) mismatch(wanted string) {
	kind := string(d.next())
	switch kind {
	case "{", "[":
	case `"`:
		kind = "string"
	case "0":
		kind = "number"
	case "t", "f", "n":
		d.literal()
		kind = map[string]string{"t": "true", "f": "false", "n": "null"}[kind]
	default:
		d.unexpected()
	}
	d.fail(fmt.Sprintf("%s is where %s should be", kind, wanted))
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
	from     io.Reader
	unpacker unpacker
	read     int64
	html     bool
	err      error // Why the answer could not be unpacked, or which bound it passes.
}

func (in *input) open(a *answer) error {
	in.answer, in.from, in.read, in.err = a, a, 0, nil
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

// Read implements io.Reader.
func (in *input) Read(p []byte) (int, error) {
	if in.err == nil && in.read > maxPageBytes {
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
