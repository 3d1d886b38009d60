package client

import (
	"io"
	"net/http"
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
