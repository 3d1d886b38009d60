package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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
	maxEntity    = 16 << 20 // One entity, as it is spelled, with white space.
	maxDepth     = 64       // Objects and arrays within each other.
)

const (
	textTooLong    = "a string or number is longer than %d bytes"
	entityTooLarge = "the texts of one entity have more than %d bytes"
)

// A decoder reads the JSON of an answer from front to back, as a jsonReader does, and the
// values in it as the APIs mean them.
type decoder struct {
	jsonReader

	ids   uint64 // The sum of the ids read from the answer.
	input input
	// refusal is the error that the answer holds although its status is 200.
	refusal *serviceError
}

// open begins a new answer.
func (d *decoder) open(a *answer) {
	d.ids, d.refusal = 0, nil
	d.input.open(a)
	d.start(&d.input)
	if bytes.HasPrefix(d.window, byteOrderMark) {
		d.at = len(byteOrderMark)
	}
	d.input.html = d.input.html || d.next() == '<'
}

var byteOrderMark = []byte("\xef\xbb\xbf")

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

// timeOrNever reads a time as d.time does, and reports whether it is of the year 0001.
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
	if len(text) == hex.EncodedLen(len(id)) && decodeHex(&id, text) && id != (MachineID{}) {
		return id
	}
	sum := sha256.Sum256(bytes.ToLower(text))
	return MachineID(sum[:len(id)])
}

// decodeHex decodes 40 hexadecimal digits, eight at once, and reports whether all are
// such digits.
func decodeHex(id *MachineID, text []byte) bool {
	const each = 0x0101010101010101
	wrong := uint64(0)
	for i := 0; i < len(id); i += 4 {
		x := binary.LittleEndian.Uint64(text[2*i:])
		letters := x >> 6 & each // 1 where bit 6 is set, as in A to F and a to f.
		low := x & (each * 0x0f)
		// The high bits must be those of 0 to 9, or of A or a; the low ones at most 9
		// without carry, or 1 to 6.
		high := x & (each * 0xf0) &^ (letters * 0x20)
		wrong |= high ^ (each*0x30 + letters*0x10)
		wrong |= (low + each*6 + letters*3) & (each * 0x10)
		wrong |= ^(low + each*0x10 - letters) & (each * 0x10)
		digits := low + letters*9
		digits = (digits<<4 | digits>>8) & 0x00ff00ff00ff00ff
		digits = (digits | digits>>8) & 0x0000ffff0000ffff
		binary.LittleEndian.PutUint32(id[i:], uint32(digits|digits>>16))
	}
	return wrong == 0
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
	if d.next(); d.at < len(d.window) {
		d.read()
		d.fail("something follows the answer")
	}
}

// problem turns the error of the decoder into one that names whose fault it is:
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

func (in *input) open(a *answer) {
	in.answer, in.read = a, 0
	in.html = strings.Contains(strings.ToLower(a.header.Get("Content-Type")), "html")
	in.from, in.err = in.unpacker.open(a, a.header)
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
