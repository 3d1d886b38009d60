package client

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// identityLifetime returns the lifetime of the token in the response of an identity
// endpoint.
func identityLifetime(t *testing.T, body string) (time.Duration, error) {
	t.Helper()
	tokens, _ := testTokens(ManagedIdentity{}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
	token, err := tokens.token(t.Context())
	if err != nil {
		return 0, err
	}
	return time.Until(token.Expiry), nil
}

// The fake time is 1 January 2000, 00:00 UTC.
func TestManagedIdentityTokenLifetimeParsing(t *testing.T) {
	const short = 10 * time.Minute
	for name, test := range map[string]struct {
		members string
		want    time.Duration
	}{
		"expires_in, a number":                         {`"expires_in":3599`, 3599 * time.Second},
		"expires_in, a string":                         {`"expires_in":"3599"`, 3599 * time.Second},
		"expires_in, a float":                          {`"expires_in":3599.0`, 3599 * time.Second},
		"expires_in, a float in a string":              {`"expires_in":"3599.0"`, 3599 * time.Second},
		"expires_in, spaces around":                    {`"expires_in":" 3599 "`, 3599 * time.Second},
		"expires_in before an epoch":                   {`"expires_in":"3599","expires_on":"946691999"`, 3599 * time.Second},
		"expires_in before a date":                     {`"expires_in":"3599","expires_on":"01/01/2000 10:30:00 +00:00"`, 3599 * time.Second},
		"expires_in before an unreadable date":         {`"expires_in":"3599","expires_on":"tomorrow"`, 3599 * time.Second},
		"expires_in before a date that is an object":   {`"expires_in":"3599","expires_on":{"year":2000}`, 3599 * time.Second},
		"an epoch, a string":                           {`"expires_on":"946720800"`, 36000 * time.Second},
		"an epoch, a number":                           {`"expires_on":946720800`, 36000 * time.Second},
		"an epoch, a float":                            {`"expires_on":946720800.0`, 36000 * time.Second},
		"an epoch beside an empty expires_in":          {`"expires_in":"","expires_on":"946720800"`, 36000 * time.Second},
		"an epoch beside a null expires_in":            {`"expires_in":null,"expires_on":"946720800"`, 36000 * time.Second},
		"an epoch beside a zero expires_in":            {`"expires_in":0,"expires_on":"946720800"`, 36000 * time.Second},
		"an epoch beside an unreadable expires_in":     {`"expires_in":"soon","expires_on":"946720800"`, 36000 * time.Second},
		"a date of App Service, 24 hours":              {`"expires_on":"01/02/2000 10:30:00 +00:00"`, 34*time.Hour + 30*time.Minute},
		"a date of App Service, AM":                    {`"expires_on":"01/02/2000 10:30:00 AM +00:00"`, 34*time.Hour + 30*time.Minute},
		"a date of App Service, PM, single digits":     {`"expires_on":"1/2/2000 9:05:06 PM +00:00"`, 45*time.Hour + 5*time.Minute + 6*time.Second},
		"a date of App Service, another offset":        {`"expires_on":"01/02/2000 10:30:00 +02:00"`, 32*time.Hour + 30*time.Minute},
		"ISO 8601, Z":                                  {`"expires_on":"2000-01-02T10:30:00Z"`, 34*time.Hour + 30*time.Minute},
		"ISO 8601, offset":                             {`"expires_on":"2000-01-02T10:30:00+00:00"`, 34*time.Hour + 30*time.Minute},
		"ISO 8601, offset without a colon":             {`"expires_on":"2000-01-02T10:30:00+0000"`, 34*time.Hour + 30*time.Minute},
		"ISO 8601, fraction":                           {`"expires_on":"2000-01-02T10:30:00.0000000Z"`, 34*time.Hour + 30*time.Minute},
		"ISO 8601 without a zone":                      {`"expires_on":"2000-01-02T10:30:00"`, 34*time.Hour + 30*time.Minute},
		"a date with a space, Z":                       {`"expires_on":"2000-01-02 10:30:00Z"`, 34*time.Hour + 30*time.Minute},
		"a date with a space, offset":                  {`"expires_on":"2000-01-02 10:30:00 +00:00"`, 34*time.Hour + 30*time.Minute},
		"a date with a space, without a zone":          {`"expires_on":"2000-01-02 10:30:00"`, 34*time.Hour + 30*time.Minute},
		"an unreadable date":                           {`"expires_on":"tomorrow"`, short},
		"a date of a 26th month":                       {`"expires_on":"26/11/2026 10:30:00 +00:00"`, short},
		"a date, day first, that seems to be past":     {`"expires_on":"02/01/1999 10:30:00 +00:00"`, short},
		"a date, day first, that seems to be far away": {`"expires_on":"05/01/2000 10:30:00 +00:00"`, short},
		"the current time":                             {`"expires_on":"2000-01-01T00:00:00Z"`, short},
		"a date in a week":                             {`"expires_on":"2000-01-08T00:00:00Z"`, 7 * 24 * time.Hour},
		"a date that is a list":                        {`"expires_on":[2000]`, short},
		"both unreadable":                              {`"expires_in":"soon","expires_on":"tomorrow"`, short},
		"not a number":                                 {`"expires_in":"NaN","expires_on":"Infinity"`, short},
		"neither":                                      {`"resource":"x"`, short},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, err := identityLifetime(t, `{"access_token":"good","token_type":"Bearer",`+test.members+`}`)
				if err != nil || got != test.want {
					t.Errorf("lifetime %s, %v, want %s", got, err, test.want)
				}
			})
		})
	}
}

func TestManagedIdentityTokenWithInvalidLifetimeIsRejected(t *testing.T) {
	for name, members := range map[string]string{
		"expires_in, negative":  `"expires_in":-5`,
		"expires_in, a year":    `"expires_in":"31536000"`,
		"expires_in, too large": `"expires_in":1e300`,
		"an epoch of the past":  `"expires_on":"1"`,
		"the current time":      `"expires_on":"946684800"`,
		"an epoch far away":     `"expires_on":"99999999999"`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := identityLifetime(t, `{"access_token":"good","token_type":"Bearer",`+members+`}`)
				if e, ok := errors.AsType[*Error](err); !ok || e.Reason != ReasonDecode {
					t.Errorf("error is %v", err)
				}
			})
		})
	}
}
