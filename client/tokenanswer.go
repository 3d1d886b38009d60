package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"
)

// A tokenAnswer is the JSON object that answers a token request, as far as
// x/oauth2 does not understand all that token endpoints send.
type tokenAnswer map[string]json.RawMessage

// readTokenBody returns the body of a token answer, unpacked.
func readTokenBody(response *http.Response) ([]byte, error) {
	unpacked, err := new(unpacker).open(response.Body, response.Header)
	if err != nil {
		return nil, fmt.Errorf("unpack the answer: %w", err)
	}
	response.Header.Del("Content-Encoding")
	body, err := io.ReadAll(io.LimitReader(unpacked, maxTokenAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return body, nil
}

// parseTokenAnswer returns nil for a body that is no JSON object.
func parseTokenAnswer(body []byte) tokenAnswer {
	var a tokenAnswer
	if json.Unmarshal(bytes.TrimPrefix(body, byteOrderMark), &a) != nil {
		return nil
	}
	return a
}

// isError reports whether the answer holds an error, whatever its status.
func (a tokenAnswer) isError() bool {
	e := a["error"]
	return len(e) > 0 && string(e) != "null" && string(e) != `""`
}

// plain is the answer as x/oauth2 reads it: a lifetime is a whole number that
// 32 bits hold. One that is no number stays as it is.
func (a tokenAnswer) plain() []byte {
	if lifetime, ok := parseSeconds(scalarText(a["expires_in"])); ok {
		seconds := min(max(lifetime/time.Second, -math.MaxInt32), math.MaxInt32)
		a["expires_in"] = fmt.Append(nil, int64(seconds))
	}
	body, err := json.Marshal(a)
	if err != nil {
		return nil // Which x/oauth2 refuses, but every value was JSON before.
	}
	return body
}
