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

// id reads a machine's id and returns its text.
func (d *decoder) id(id *MachineID, value []byte) []byte {
	text := d.text(value)
	id.parse(text)
	d.ids += binary.LittleEndian.Uint64(id[:])
	return text
}

// parse parses an id without regard to case. The result is zero only for an empty text.
func (id *MachineID) parse(text []byte) {
	*id = MachineID{}
	if len(text) == 0 {
		return
	}
	if len(text) == hex.EncodedLen(len(id)) {
		if _, err := hex.Decode(id[:], text); err == nil && *id != (MachineID{}) {
			return
		}
	}
	sum := sha256.Sum256(bytes.ToLower(text))
	*id = MachineID(sum[:len(id)])
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
