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
