package client

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// A tokenResponse is the JSON object in the response to a token request.
type tokenResponse map[string]json.RawMessage

// parseTokenResponse returns nil if the body is not a JSON object.
func parseTokenResponse(body []byte) tokenResponse {
	var a tokenResponse
	if json.Unmarshal(bytes.TrimPrefix(body, byteOrderMark), &a) != nil {
		return nil
	}
	return a
}

// isError reports whether the response contains an error, regardless of its status.
func (a tokenResponse) isError() bool {
	e := a["error"]
	return len(e) > 0 && string(e) != "null" && string(e) != `""`
}

// token returns the token in the response of an identity endpoint. The expiry is in
// expires_in or expires_on. A date of unknown format is ignored.
func (a tokenResponse) token(now time.Time) (*oauth2.Token, *Error) {
	token := &oauth2.Token{Expiry: parseExpiresOn(scalarText(a["expires_on"]), now)}
	if lifetime, ok := parseSeconds(scalarText(a["expires_in"])); ok {
		token.Expiry = now.Add(lifetime)
	}
	if json.Unmarshal(a["access_token"], &token.AccessToken) != nil || a["token_type"] != nil && json.Unmarshal(a["token_type"], &token.TokenType) != nil {
		return nil, tokenDecodeError(notTokenResponse)
	}
	return token, checkToken(token, now)
}

// scalarText returns the text of a JSON number or string. For other values it returns text
// that is neither a number nor a date.
func scalarText(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) != nil {
		text = string(value)
	}
	return strings.TrimSpace(text)
}

// parseSeconds parses 3599 and 3599.0. It returns false for zero, which endpoints send for
// "unknown", and for text that is not a number. The result is limited to ±2^32 seconds, so
// that arithmetic with it does not overflow.
func parseSeconds(text string) (time.Duration, bool) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n == 0 {
		return 0, false
	}
	return time.Duration(max(-1<<32, min(n, 1<<32)) * float64(time.Second)), true
}

// expiresOnLayouts are the date formats of expires_on that App Service, Automation and
// Functions use. A date without a zone is UTC.
var expiresOnLayouts = []string{
	"1/2/2006 3:04:05 PM -07:00",
	"1/2/2006 15:04:05 -07:00",
	"2006-01-02T15:04:05Z07:00",
	"2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04:05",
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04:05 -07:00",
	"2006-01-02 15:04:05",
}

// parseExpiresOn parses seconds since the epoch or a date. It returns the zero time for a
// date that is invalid or that no valid token has: whether the month or the day comes first
// depends on the endpoint.
func parseExpiresOn(text string, now time.Time) time.Time {
	if epoch, ok := parseSeconds(text); ok {
		return time.Unix(0, 0).Add(epoch)
	}
	for _, layout := range expiresOnLayouts {
		date, err := time.Parse(layout, text)
		if lifetime := date.Sub(now); err == nil && lifetime > 0 && lifetime <= maxTokenLifetime {
			return date
		}
	}
	return time.Time{}
}
