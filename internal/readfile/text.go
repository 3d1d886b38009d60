package readfile

import (
	"bytes"
	"errors"
	"io/fs"
)

// ErrUTF16 is the error of a text that an editor or PowerShell saved as "Unicode".
var ErrUTF16 = errors.New("encoded as UTF-16: save it as UTF-8")

// Decode returns the text without a UTF-8 byte-order mark, which editors on Windows
// put before it. It fails with ErrUTF16 if the text is UTF-16 or UTF-32: it begins
// with their byte-order mark, or with an ASCII character that takes two bytes. It
// does not check that the text is valid UTF-8.
func Decode(text []byte) ([]byte, error) {
	marked := bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff"))
	if marked || len(text) > 1 && (text[0] == 0) != (text[1] == 0) {
		return nil, ErrUTF16
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// Reason is what went wrong with a file, without its path, for a message that
// begins with the path.
func Reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
