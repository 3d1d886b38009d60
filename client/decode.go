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

// Limits of a response. They are far beyond what the APIs send and bound the memory that
// a faulty response needs.
const (
	maxPageBytes = 64 << 20 // Unpacked.
	maxToken     = 1 << 20  // Bytes of one encoded string or number.
	maxElements  = 10_000   // Of a list within an entity.
	maxEntity    = 16 << 20 // Bytes of one encoded entity, white space included.
	maxDepth     = 64       // Nested objects and arrays.
)

const (
	textTooLong    = "a string or number is longer than %d bytes"
	entityTooLarge = "one entity is larger than %d bytes"
)

// A decoder reads the JSON of a response sequentially, as a jsonReader does. It also
// converts values such as times, flags and ids.
type decoder struct {
	jsonReader

	ids   uint64 // The sum of the ids read from the response.
	input input
	// serviceErr is the error in a response with status 200.
	serviceErr *serviceError
}

// open starts to read a new response.
func (d *decoder) open(a *apiResponse) {
	d.ids, d.serviceErr = 0, nil
	d.input.open(a)
	d.start(&d.input)
	if bytes.HasPrefix(d.window, byteOrderMark) {
		d.at = len(byteOrderMark)
	}
	d.input.html = d.input.html || d.peek() == '<'
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// flag reads a boolean, which most APIs send as the string "True" or "False". It returns
// True or False, or any other string as it is.
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

// time reads an RFC 3339 time. Without a zone it is UTC. The result is the zero time for
// any other value and for the year 0001, which the APIs send for "never".
func (d *decoder) time(value []byte) time.Time {
	t, _ := d.timeOrNever(value)
	return t
}

// timeOrNever reads a time as d.time does. It also reports whether the year is 0001.
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

// id reads a machine's id and returns it with its text.
func (d *decoder) id(value []byte) (MachineID, []byte) {
	text := d.text(value)
	id := machineID(text)
	d.ids += binary.LittleEndian.Uint64(id[:])
	return id, text
}

// machineID parses an id without regard to case. The result is zero only for an empty
// text.
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

// decodeHex decodes 40 hexadecimal digits, eight at a time. It returns false if a
// character is not such a digit.
func decodeHex(id *MachineID, text []byte) bool {
	const each = 0x0101010101010101
	wrong := uint64(0)
	for i := 0; i < len(id); i += 4 {
		x := binary.LittleEndian.Uint64(text[2*i:])
		letters := x >> 6 & each // 1 where bit 6 is set, as in A to F and a to f.
		low := x & (each * 0x0f)
		// The high bits must be those of the digits 0 to 9 or of the letters A or a. The
		// low bits must be at most 9 for digits and 1 to 6 for letters.
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

// A serviceError is the code and the message of an error in a service's response.
type serviceError struct{ code, message string }

// readError keeps the value of a member in serviceErr if the services use its name for
// errors.
func (d *decoder) readError(name string, value []byte) {
	if name != "error" && name != "odata.error" || value[0] == 'n' {
		return
	}
	d.serviceErr = &serviceError{}
	if value[0] != '{' {
		d.serviceErr.message = string(d.text(value))
		return
	}
	for name, value := range d.members(value) {
		switch string(name) {
		case "code":
			d.serviceErr.code = string(d.text(value))
		case "message":
			d.serviceErr.message = string(d.text(value))
		}
	}
}

// finish reads the response to its end. It fails if the response contains an error or if
// more data follows the JSON value.
func (d *decoder) finish() {
	if d.serviceErr != nil {
		d.fail("the status is 200, but the response contains an error")
	}
	if d.peek(); d.at < len(d.window) {
		d.read()
		d.fail("unexpected data after the JSON value")
	}
}

// problem returns the error of the call: that of the connection, or a decode error.
func (d *decoder) problem(api API) error {
	if err := d.input.response.readError(); err != nil {
		return err
	}
	err := d.err
	if d.input.err != nil {
		err = d.input.err
	}
	message := "the response is not what the API documents"
	switch {
	case d.input.read == 0 && d.input.err == nil:
		message = "the response is empty"
	case d.input.html:
		message = "the response is an HTML page, perhaps a sign-in page or a proxy's"
	}
	e := &Error{API: api, Reason: ReasonDecode, Status: http.StatusOK, Message: message, Err: err}
	if d.serviceErr != nil {
		e.Code = d.serviceErr.code
		e.Message = joinTexts("; ", d.serviceErr.message, message)
	}
	return e
}

// input unpacks a response and limits its size.
type input struct {
	response *apiResponse
	reader   io.Reader
	unpacker unpacker
	read     int64
	html     bool
	err      error // The response could not be unpacked or is too large.
}

func (in *input) open(a *apiResponse) {
	in.response, in.read = a, 0
	in.html = strings.Contains(strings.ToLower(a.header.Get("Content-Type")), "html")
	in.reader, in.err = in.unpacker.open(a, a.header)
}

// Read implements io.Reader.
func (in *input) Read(p []byte) (int, error) {
	if in.err == nil && in.read > maxPageBytes {
		in.err = fmt.Errorf("a page is larger than %d bytes", maxPageBytes)
	}
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.reader.Read(p)
	in.read += int64(n)
	if err != nil && err != io.EOF {
		in.err = err
	}
	return n, err
}
