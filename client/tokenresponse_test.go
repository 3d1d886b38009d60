package client

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// scripted returns a handler with a fixed response to token requests.
func scripted(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func packed(t *testing.T, writer func(io.Writer) io.WriteCloser, body string) string {
	t.Helper()
	var b bytes.Buffer
	w := writer(&b)
	_, _ = io.WriteString(w, body)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func byGzip(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }
func byZlib(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }
func byDeflate(w io.Writer) io.WriteCloser {
	f, _ := flate.NewWriter(w, flate.DefaultCompression) // The level is a valid one.
	return f
}

func TestTokenResponseVariants(t *testing.T) {
	const good = `{"token_type":"Bearer","expires_in":3599,"access_token":"t0k3n"}`
	withLifetime := func(lifetime string) http.HandlerFunc {
		return scripted(200, strings.Replace(good, "3599", lifetime, 1))
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    time.Duration // Lifetime of the token; 0 if the response is rejected.
	}{
		"as documented":                       {scripted(200, good), 3599 * time.Second},
		"as text":                             {scripted(200, good, "Content-Type", "text/plain; charset=utf-8"), 3599 * time.Second},
		"as a form":                           {scripted(200, good, "Content-Type", "application/x-www-form-urlencoded"), 3599 * time.Second},
		"of no type":                          {scripted(200, good, "Content-Type", ""), 3599 * time.Second},
		"after a byte order mark":             {scripted(200, "\ufeff"+good), 3599 * time.Second},
		"packed":                              {scripted(200, packed(t, byGzip, good), "Content-Encoding", "GZIP"), 3599 * time.Second},
		"x-gzip":                              {scripted(200, packed(t, byGzip, good), "Content-Encoding", "x-gzip"), 3599 * time.Second},
		"raw deflate":                         {scripted(200, packed(t, byDeflate, good), "Content-Encoding", "deflate"), 3599 * time.Second},
		"deflate with zlib header":            {scripted(200, packed(t, byZlib, good), "Content-Encoding", "deflate"), 3599 * time.Second},
		"unknown content encoding":            {scripted(200, good, "Content-Encoding", "br"), 0},
		"a lifetime with a point":             {withLifetime("3599.0"), 3599 * time.Second},
		"a lifetime of a second with a point": {withLifetime("1.0"), time.Second},
		"a response of the maximum size":      {scripted(200, good+strings.Repeat(" ", 256<<10-len(good))), 3599 * time.Second},
		"a lifetime with a fraction":          {withLifetime("3599.9"), 3599 * time.Second},
		"a lifetime as text":                  {withLifetime(`"3599"`), 3599 * time.Second},
		"a lifetime with a point as text":     {withLifetime(`"3599.0"`), 3599 * time.Second},
		"a lifetime with an exponent":         {withLifetime("3.6e3"), time.Hour},
		"a lifetime of null":                  {withLifetime("null"), assumedTokenLifetime},
		"no lifetime":                         {scripted(200, `{"token_type":"Bearer","access_token":"t0k3n"}`), assumedTokenLifetime},
		"an error of null":                    {scripted(200, strings.Replace(good, "{", `{"error":null,`, 1)), 3599 * time.Second},
		"a negative lifetime":                 {withLifetime("-1"), 0},
		"a negative lifetime with a point":    {withLifetime("-1.5"), 0},
		"the most negative lifetime":          {withLifetime("-4294967296"), 0},
		"a lifetime of a week":                {withLifetime("604800"), maxTokenLifetime},
		"a lifetime of more than a week":      {withLifetime("604801"), 0},
		"a lifetime that is too long":         {withLifetime("1e300"), 0},
		"a lifetime that overflows 32 bits":   {withLifetime("4294970895"), 0},
		"a lifetime of zero":                  {withLifetime("0"), assumedTokenLifetime},
		"a lifetime below a second":           {withLifetime("0.5"), 0},
		"a word as lifetime":                  {withLifetime(`"soon"`), 0},
		"an empty lifetime":                   {withLifetime(`""`), 0},
		"a list as lifetime":                  {withLifetime(`[3599]`), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens, _ := testTokens(secretCredential(), test.handler)
				ctx := WithRetryDeadline(t.Context(), time.Now())
				token, err := tokens.token(ctx)
				switch {
				case test.want == 0 && err == nil:
					t.Errorf("a token that lives for %s", time.Until(token.Expiry))
				case test.want == 0:
				case err != nil:
					t.Error(err)
				case time.Until(token.Expiry) != test.want || token.AccessToken != "t0k3n":
					t.Errorf("token %q lives for %s, want %s", token.AccessToken, time.Until(token.Expiry), test.want)
				}
			})
		})
	}
}

func TestBrokenTokenResponseNamesFailure(t *testing.T) {
	cut := packed(t, byGzip, strings.Repeat("{}", 99))[:20]
	for name, test := range map[string]struct {
		encoding string
		body     string
		broken   error // Error at the end of the body; nil if there is none.
		what     string
		cause    string
	}{
		"an unknown encoding":       {"br", "{}", nil, "reach", "unpack the response: unsupported content encoding"},
		"a header that is not gzip": {"gzip", "not gzip at all", nil, "reach", "unpack the response: gzip: invalid header"},
		"a truncated gzip body":     {"gzip", cut, nil, "reach", "read the response: unexpected EOF"},
		"a connection that breaks":  {"", "{", io.ErrUnexpectedEOF, "reach", "read the response: unexpected EOF"},
		"a body that never ends":    {"", "{", context.DeadlineExceeded, "no complete response within 30s", "read the response: context deadline exceeded"},
		"a hanging gzip body":       {"gzip", "", context.DeadlineExceeded, "no complete response within 30s", "unpack the response: context deadline exceeded"},
	} {
		for host, credential := range map[string]Credential{"login.example": secretCredential(), "169.254.169.254": ManagedIdentity{}} {
			t.Run(name+", "+host, func(t *testing.T) {
				tokens, _ := testTokens(credential, nil)
				tokens.transport.base = roundTrip(func(r *http.Request) (*http.Response, error) {
					body := io.Reader(strings.NewReader(test.body))
					if test.broken != nil {
						body = io.MultiReader(body, iotest.ErrReader(test.broken))
					}
					return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Encoding": {test.encoding}}, Body: io.NopCloser(body), Request: r}, nil
				})
				_, err := tokens.attempt(t.Context())
				text := fmt.Sprint(err)
				if !strings.HasPrefix(text, "token: "+test.what) || !strings.HasSuffix(text, ": "+test.cause) && !strings.Contains(text, ": "+test.cause+" ") {
					t.Errorf("error %q does not contain %q and %q", text, test.what, test.cause)
				}
				if test.what == "reach" && !strings.Contains(text, "reach "+host) {
					t.Errorf("error %q does not name the host", text)
				}
			})
		}
	}
}

func TestEveryEntraErrorNumberHasAdvice(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		reason  Reason
		want    []string
	}{
		"no service principal": {
			scripted(401, `{"error":"invalid_client","error_description":"AADSTS7000229: The client application x is missing service principal in the tenant y.","error_codes":[7000229]}`),
			ReasonAuth, []string{"AADSTS7000229", "no service principal", "admin consent"},
		},
		"a tenant of another cloud": {
			scripted(400, `{"error":"invalid_request","error_description":"AADSTS900382: Confidential Client is not supported in Cross Cloud request.","error_codes":[900382]}`),
			ReasonAuth, []string{"AADSTS900382", "check azuread.cloud"},
		},
		"a request of another cloud": {
			scripted(400, `{"error":"invalid_request","error_description":"AADSTS900432: Confidential Client is not supported in Cross Cloud request.","error_codes":["900432"]}`),
			ReasonAuth, []string{"AADSTS900432", "check azuread.cloud"},
		},
		"an app that is not assigned": {
			scripted(400, `{"error":"invalid_grant","error_description":"AADSTS501051: Application x is not assigned to a role for the application y.","error_codes":[501051]}`),
			ReasonAuth, []string{"AADSTS501051", "assign it there"},
		},
		"a malformed tenant id": {
			scripted(400, `{"error":"invalid_request","error_description":"AADSTS900023: Specified tenant identifier is neither a valid DNS name, nor a valid external domain.","error_codes":["900023"]}`),
			ReasonAuth, []string{"check tenant_id"},
		},
		"numbers as strings": {
			scripted(401, `{"error":"invalid_client","error_description":"AADSTS7000222: expired","error_codes":["x"," 7000222 "]}`),
			ReasonAuth, []string{"the client secret has expired"},
		},
		"a number after null": {
			scripted(401, `{"error":"invalid_client","error_description":"AADSTS7000222: expired","error_codes":[null,7000222]}`),
			ReasonAuth, []string{"the client secret has expired"},
		},
		"no list of numbers": {
			scripted(401, `{"error":"invalid_client","error_description":"AADSTS7000222: expired","error_codes":7000222}`),
			ReasonAuth, []string{"AADSTS7000222", "rejects the app's credential"},
		},
		"a temporary error with 503": {
			scripted(503, `{"error":"invalid_request","error_description":"AADSTS90033: A transient error has occurred. Please try again.","error_codes":[90033]}`),
			ReasonServer, []string{"AADSTS90033"},
		},
		"a temporary error with 400": {
			scripted(400, `{"error":"invalid_request","error_description":"AADSTS90033: A transient error has occurred. Please try again.","error_codes":[90033]}`),
			ReasonServer, []string{"HTTP 400", "AADSTS90033"},
		},
		"a temporary error with 200": {
			scripted(200, `{"error":"invalid_request","error_description":"AADSTS90033: A transient error has occurred. Please try again.","error_codes":["90033"]}`),
			ReasonServer, []string{"HTTP 200", "invalid_request", "AADSTS90033"},
		},
		"an error and a token": {
			scripted(200, `{"error":"invalid_client","error_codes":[7000215],"access_token":"t0k3n","token_type":"Bearer","expires_in":3599}`),
			ReasonAuth, []string{"HTTP 200", "invalid_client", "the client secret is wrong"},
		},
		"an error with 200 in the APIs' format": {
			scripted(200, `{"error":{"code":"Busy","message":"later"}}`),
			ReasonAuth, []string{"HTTP 200", "Busy", "later"},
		},
		"an error with 200 as text": {
			scripted(200, `{"error":"brand_new"}`, "Content-Type", "text/plain"),
			ReasonAuth, []string{"HTTP 200", "brand_new"},
		},
		"a compressed error": {
			scripted(401, packed(t, byDeflate, `{"error":"invalid_client","error_codes":[7000215]}`), "Content-Encoding", "deflate"),
			ReasonAuth, []string{"HTTP 401", "invalid_client", "the client secret is wrong"},
		},
	} {
		for kind, credential := range map[string]Credential{"secret": secretCredential(), "managed identity": ManagedIdentity{}} {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tokens, _ := testTokens(credential, test.handler)
					_, err := tokens.token(WithRetryDeadline(t.Context(), time.Now()))
					if ReasonOf(err) != test.reason {
						t.Errorf("reason %s of %v, want %s", ReasonOf(err), err, test.reason)
					}
					for _, want := range test.want {
						if !strings.Contains(fmt.Sprint(err), want) {
							t.Errorf("error %v does not contain %q", err, want)
						}
					}
					if strings.Contains(fmt.Sprint(err), "t0k3n") {
						t.Errorf("error %v contains the token", err)
					}
				})
			})
		}
	}
}
