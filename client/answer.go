package client

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

// An answer is the body of a successful call, which is read while it arrives. It
// must be closed.
type answer struct {
	body     io.Reader
	header   http.Header
	err      error             // Why the body could not be read to its end.
	explain  func(error) error // What that means to the caller.
	finished func(error)       // Ends the call, of which the body may be broken.
}

// Read reads the body as it was sent, and remembers why it broke.
func (a *answer) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	if err != nil && err != io.EOF {
		a.err = err
	}
	return n, err
}

// close ends the call, once: its connection can be used again if the body was
// read to its end.
func (a *answer) close() {
	if a.finished != nil {
		a.finished(a.err)
		a.finished = nil
	}
}

// broken returns why the body could not be read, or nil where it could.
func (a *answer) broken() error {
	if a.err == nil {
		return nil
	}
	return a.explain(a.err)
}

// An unpacker reads bodies in any of the content encodings that the services and
// what stands before them use, asked for or not. Its readers are used again.
type unpacker struct {
	packed *bufio.Reader
	gzip   *gzip.Reader
}

// open returns a reader of what the body holds, by its header. The reader is valid
// until the next open.
func (u *unpacker) open(body io.Reader, header http.Header) (io.Reader, error) {
	encoding := strings.Join(header.Values("Content-Encoding"), ", ")
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		u.buffer(body)
		if u.gzip == nil {
			u.gzip = new(gzip.Reader)
		}
		return u.gzip, u.gzip.Reset(u.packed)
	case "deflate":
		u.buffer(body)
		if head, err := u.packed.Peek(2); err == nil && isZlib(head) {
			return zlib.NewReader(u.packed)
		}
		return flate.NewReader(u.packed), nil
	default:
		return nil, fmt.Errorf("content encoding %q was not asked for", encoding)
	}
}

func (u *unpacker) buffer(body io.Reader) {
	if u.packed == nil {
		u.packed = bufio.NewReaderSize(nil, 32<<10)
	}
	u.packed.Reset(body)
}

// isZlib reports whether a deflate body has the header that RFC 9110 asks for and
// the Defender API leaves out. No encoder of raw deflate begins like it.
func isZlib(head []byte) bool {
	return head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0
}
