package readfile

import (
	"bytes"
	"errors"
	"io/fs"
)

// ErrUTF16 is the error of a text that an editor or PowerShell saved as "Unicode".
var ErrUTF16 = errors.New("encoded as UTF-16: save it as UTF-8")

// Decode returns the text without a UTF-8 byte-order mark, which editors on Windows
// put before it. It fails with ErrUTF16 if the text is UTF-16, with a byte-order
// mark or without. It does not check that the text is valid UTF-8.
func Decode(text []byte) ([]byte, error) {
	if isUTF16(text) {
		return nil, ErrUTF16
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// isUTF16 reports whether the text begins with a byte-order mark of UTF-16 or
// UTF-32, or with an ASCII character that takes two bytes.
func isUTF16(text []byte) bool {
	if len(text) < 2 {
		return false
	}
	switch a, b := text[0], text[1]; {
	case a == 0xff && b == 0xfe, a == 0xfe && b == 0xff:
		return true
	default:
		return (a == 0) != (b == 0)
	}
}

// Reason is what went wrong with a file, without its path, for a message that
// begins with the path.
func Reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
