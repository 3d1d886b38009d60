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

// An apiResponse is a response with status 200 whose body is read while it arrives. The
// caller must close it.
type apiResponse struct {
	body     io.Reader
	header   http.Header
	err      error             // The first error of reading the body.
	explain  func(error) error // Turns err into the error of the call.
	finished func(error)       // Ends the call. The argument is err.
}

// Read reads the body as it was sent and keeps the first error.
func (a *apiResponse) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	if err != nil && err != io.EOF {
		a.err = err
	}
	return n, err
}

// close ends the call. Further calls do nothing. The connection is reused if the body
// was read to its end.
func (a *apiResponse) close() {
	if a.finished != nil {
		a.finished(a.err)
		a.finished = nil
	}
}

// readError returns the error of the call if reading the body failed, else nil.
func (a *apiResponse) readError() error {
	if a.err == nil {
		return nil
	}
	return a.explain(a.err)
}

// An unpacker decodes the content encodings that the services and their proxies use,
// even ones that were not requested. It reuses its readers.
type unpacker struct {
	packed *bufio.Reader
	gzip   *gzip.Reader
}

// open returns a reader of the decoded body. The header names the encoding. The reader
// is valid until the next call of open.
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
		return nil, fmt.Errorf("unsupported content encoding %q", encoding)
	}
}

func (u *unpacker) buffer(body io.Reader) {
	if u.packed == nil {
		u.packed = bufio.NewReaderSize(nil, 32<<10)
	}
	u.packed.Reset(body)
}

// isZlib reports whether a deflate body has the zlib header that RFC 9110 requires. The
// Defender API omits it. Raw deflate never begins with these bytes.
func isZlib(head []byte) bool {
	return head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0
}
