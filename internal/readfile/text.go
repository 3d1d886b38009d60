package readfile

import (
	"bytes"
	"errors"
	"io/fs"
)

// ErrUTF16 means that the text is UTF-16 or UTF-32, which editors and PowerShell
// call "Unicode".
var ErrUTF16 = errors.New("encoded as UTF-16: save it as UTF-8")

// Decode returns the text without its UTF-8 byte-order mark, which editors on
// Windows add. It returns ErrUTF16 for UTF-16 and UTF-32: text that begins with
// their byte-order mark, or with an ASCII character of two bytes. It does not
// check for valid UTF-8.
func Decode(text []byte) ([]byte, error) {
	marked := bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff"))
	if marked || len(text) > 1 && (text[0] == 0) != (text[1] == 0) {
		return nil, ErrUTF16
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// Reason returns the error's text without the file's path, for messages that
// begin with the path.
func Reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
