package client

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode/utf16"
)

// secretEncodings are the encodings in which servers repeat what was sent to them.
var secretEncodings = []struct {
	name   string
	encode func(r *rand.Rand, s string) string
}{
	{"form-encoded", func(_ *rand.Rand, s string) string { return url.QueryEscape(s) }},
	{"path-encoded", func(_ *rand.Rand, s string) string { return url.PathEscape(s) }},
	{"percent-encoded in lower case", func(_ *rand.Rand, s string) string { return strings.ToLower(everyByte("%%%02X", s)) }},
	{"percent-encoded in either case", func(r *rand.Rand, s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			fmt.Fprintf(&b, []string{"%%%02x", "%%%02X"}[r.IntN(2)], c)
		}
		return b.String()
	}},
	{"JSON", func(_ *rand.Rand, s string) string {
		quoted, err := json.Marshal(s)
		if err != nil {
			panic(err)
		}
		return strings.Trim(string(quoted), `"`)
	}},
	{"JSON with every character escaped", func(_ *rand.Rand, s string) string {
		var b strings.Builder
		for _, unit := range utf16.Encode([]rune(s)) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
		return b.String()
	}},
	{"JSON with escaped slashes", func(_ *rand.Rand, s string) string { return strings.ReplaceAll(s, "/", `\/`) }},
	{"quoted by Go", func(_ *rand.Rand, s string) string { return strconv.QuoteToASCII(s) }},
	{"escaped by hexadecimal numbers", func(_ *rand.Rand, s string) string { return everyByte(`\x%02x`, s) }},
	{"HTML", func(_ *rand.Rand, s string) string { return html.EscapeString(s) }},
	{"HTML by numbers", func(_ *rand.Rand, s string) string {
		var b strings.Builder
		for _, c := range s {
			fmt.Fprintf(&b, "&#%d;", c)
		}
		return b.String()
	}},
	{"base64", func(_ *rand.Rand, s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }},
	{"base64 without padding", func(_ *rand.Rand, s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) }},
	{"base64 for URLs", func(_ *rand.Rand, s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) }},
	{"base64 for URLs without padding", func(_ *rand.Rand, s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }},
	{"base64 within other text", func(r *rand.Rand, s string) string {
		return base64.StdEncoding.EncodeToString([]byte("application"[:r.IntN(11)] + ":" + s + "; more"))
	}},
	{"base64 in lines", func(r *rand.Rand, s string) string {
		return lines(base64.StdEncoding.EncodeToString([]byte(s)), 20+r.IntN(57))
	}},
	{"hexadecimal", func(_ *rand.Rand, s string) string { return hex.EncodeToString([]byte(s)) }},
	{"UTF-16", func(_ *rand.Rand, s string) string { return strings.Join(strings.Split(s, ""), "\x00") }},
}

func everyByte(format, s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, format, c)
	}
	return b.String()
}

func lines(s string, width int) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + "\r\n")
		s = s[width:]
	}
	return b.String() + s
}

// alphabets are the characters of tokens, client secrets and passwords.
var alphabets = []string{
	base62 + "-_.",
	base62 + "~.-_",
	base62 + " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
}

func randomText(r *rand.Rand, alphabet string, length int) string {
	b := make([]byte, length)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

// checkMasked fails if a part of the secret that is longer than a fragment remains, as it
// is or encoded.
func checkMasked(t *testing.T, masked, secret, encoded, what string) {
	t.Helper()
	if len(masked) > maxText+len("…") {
		t.Errorf("%s: %d bytes remain", what, len(masked))
	}
	for i := range len(secret) - fragment + 1 {
		if part := secret[i : i+fragment]; strings.Contains(masked, part) && !strings.Contains(maskedSecret, part) {
			t.Fatalf("%s: %q of the secret %q is not masked in %q", what, part, secret, masked)
		}
	}
	// The maximum number of bytes of a fragment in this encoding.
	length := 2*fragment*len(encoded)/len(secret) + 2*fragment
	for i := range len(encoded) - length + 1 {
		if part := encoded[i : i+length]; strings.Contains(masked, part) {
			t.Fatalf("%s: %q is not masked in %q, of the secret %q", what, part, masked, secret)
		}
	}
}

func TestSurrogatePairEscapesAreDecodedTogether(t *testing.T) {
	for text, want := range map[string]string{
		`\ud83d\ude00x`: "\U0001F600 12", `\ud83d\ude00`: "\U0001F600 12", `\u00e4x`: "ä 6", `\u0041\u0042`: "A 6", `\x41`: "A 4", `\n`: "\n 2", `\/`: "/ 2", `\"`: `" 2`, `\u00`: " 0", `\`: " 0",
	} {
		meaning, length := backslashEscape([]byte(text))
		if got := fmt.Sprintf("%s %d", meaning, length); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}

func TestSecretIsMaskedInEveryEncoding(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	const words = "the service says that a token of this application is not accepted here and "
	for i, first := range secretEncodings {
		for j := range 5 { // Each encoding is combined with five others, in both orders.
			second := secretEncodings[(i+4*j+1)%len(secretEncodings)]
			what := first.name + ", then " + second.name
			secret := randomText(r, alphabets[r.IntN(len(alphabets))], 12+r.IntN(60))
			var redactor redactor
			redactor.add("token", "an older token of the same kind")
			redactor.add("token", secret)
			for _, encoded := range []string{secret, strings.ToUpper(secret), first.encode(r, secret), second.encode(r, first.encode(r, secret))} {
				before := []int{r.IntN(30), maxText - r.IntN(len(encoded)+1), maxScannedText - r.IntN(len(encoded)+1)}[r.IntN(3)]
				text := strings.Repeat(words, 1+maxScannedText/len(words))[:max(0, before)] + []string{"", " ", "=", `"`, "Bearer "}[r.IntN(5)] + encoded
				text += []string{"", `"`, " and more", "&x=y", strings.Repeat(" x", 1000)}[r.IntN(5)]
				checkMasked(t, redactor.text(text), secret, encoded, what)
				// The server may have truncated the text.
				checkMasked(t, redactor.text(text[:len(text)-r.IntN(len(encoded))]), secret, encoded, what+", cut")
			}
		}
	}
}

func FuzzRedactor(f *testing.F) {
	f.Add("Zq~8Q~abcdefghijklmnop.qrstuvwxyz_0123456", "before ", " after", uint16(0), uint64(1))
	f.Add("päss wörd/+%41&amp;\\u0041", "://user:", "@proxy", uint16(0x321), uint64(2))
	f.Fuzz(func(t *testing.T, secret, before, after string, chosen uint16, seed uint64) {
		if len(secret) < fragment || strings.Contains(maskedSecret, strings.ToLower(secret)) {
			return
		}
		r := rand.New(rand.NewPCG(seed, seed))
		encoded, what := secret, "raw"
		for ; chosen > 0; chosen >>= 8 {
			encoding := secretEncodings[int(chosen&0xff)%len(secretEncodings)]
			encoded, what = encoding.encode(r, encoded), what+", "+encoding.name
		}
		var redactor redactor
		redactor.add("token", secret)
		masked := redactor.text(before + encoded + after)
		for i := range len(secret) - fragment + 1 {
			part := secret[i : i+fragment]
			// The placeholder itself may contain the part.
			if strings.Contains(masked, part) && !strings.Contains(maskedSecret, part) {
				t.Fatalf("%s: %q of the secret %q is not masked in %q", what, part, secret, masked)
			}
		}
		if again := redactor.text(masked); again != masked {
			t.Fatalf("%q, masked again, is %q", masked, again)
		}
	})
}

func TestOrdinaryTextIsUnchanged(t *testing.T) {
	var redactor redactor
	redactor.add("token", "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJhcGkifQ.c2lnbmF0dXJl")
	redactor.add("password", "s")
	redactor.add("password", "secret")
	for _, text := range []string{
		"AADSTS7000215: Invalid client secret is provided",
		"dial tcp 192.0.2.1:443: connect: connection refused",
		`the chain of pages is broken: a link leads from https://a.example:443 to https://b.example:443`,
		"mail admin@example.com about https://example.com/", "<secret>", "",
	} {
		if got := redactor.text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestUserInformationOfAnyURLIsMasked(t *testing.T) {
	for text, want := range map[string]string{
		`parse "http://user:pa ss@proxy"`:                     `parse "http://user:pa ss@proxy"`,
		`invalid proxy address "http://user:pa/ss@proxy:1"`:   `invalid proxy address "http://<secret>@proxy:1"`,
		"socks5://token@proxy: refused":                       "socks5://<secret>@proxy: refused",
		"GET http://a@b@c.example/?x=1 and https://d.example": "GET http://<secret>@c.example/?x=1 and https://d.example",
	} {
		if got := (*redactor)(nil).text(text); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}

func TestRedactedErrorKeepsCausesButNotTheirTexts(t *testing.T) {
	var r redactor
	r.add("token", "token-of-the-tenant")
	inner := &Error{API: Machines, Reason: ReasonOther, Status: 404, Code: "NotFound", Message: "no token-of-the-tenant"}
	cause := fmt.Errorf("read token-of-the-tenant: %w", io.ErrUnexpectedEOF)
	for name, err := range map[string]error{
		"an Error":          &Error{API: Token, Reason: ReasonNetwork, Code: "token-of-the-tenant", Message: "token-of-the-tenant", Err: cause},
		"an Error's Error":  &Error{API: Token, Err: fmt.Errorf("%w: %w", inner, io.ErrUnexpectedEOF)},
		"a wrapped Error":   fmt.Errorf("%w: %w", inner, cause),
		"not an Error":      cause,
		"with advice":       func() error { return &Error{Err: cause, advice: "token-of-the-tenant"} }(),
		"a very long cause": &Error{Err: fmt.Errorf("%w %s", cause, strings.Repeat("x", 1<<20))},
	} {
		clean := r.error(err)
		if text := clean.Error(); strings.Contains(text, "tenant") || len(text) > 3*maxText {
			t.Errorf("%s: %q", name, text)
		}
		if !errors.Is(clean, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the cause is lost", name)
		}
		if e, ok := errors.AsType[*Error](clean); ok && strings.Contains(e.Error(), "tenant") {
			t.Errorf("%s: the Error in it is %q", name, e)
		}
	}
	if err := r.error(inner); !IsNotFound(err) {
		t.Errorf("%q is no longer NotFound", err)
	}
	if !errors.Is(r.error(io.EOF), io.EOF) || r.error(nil) != nil {
		t.Error("an error without a secret changed")
	}
}

func BenchmarkRedactor(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	var redactor redactor
	for _, kind := range []string{"token graph", "token api", "secret"} {
		for range keptSecrets {
			redactor.add(kind, randomText(r, base62, 2000))
		}
	}
	text := `Authorization header "Bearer ` + randomText(r, base62, 1000) + `" was refused\u0020by the gateway %20 &amp; its friends`
	for b.Loop() {
		redactor.text(text)
	}
}

// calls are all methods of Client that return an error or a text.
var calls = map[string]func(context.Context, *Client) string{
	"SecurityStates":  func(ctx context.Context, c *Client) string { return lastError(c.SecurityStates(ctx)) },
	"Machines":        func(ctx context.Context, c *Client) string { return lastError(c.Machines(ctx)) },
	"AntivirusHealth": func(ctx context.Context, c *Client) string { return lastError(c.AntivirusHealth(ctx)) },
	"DomainMachines":  func(ctx context.Context, c *Client) string { return lastError(c.DomainMachines(ctx, "evil.example")) },
	"DomainStatistics": func(ctx context.Context, c *Client) string {
		_, err := c.DomainStatistics(ctx, "evil.example")
		return fmt.Sprint(err)
	},
	"ExposureScore":             func(ctx context.Context, c *Client) string { return scoreError(c.ExposureScore(ctx)) },
	"DeviceSecureScore":         func(ctx context.Context, c *Client) string { return scoreError(c.DeviceSecureScore(ctx)) },
	"DeviceGroupExposureScores": func(ctx context.Context, c *Client) string { return lastError(c.DeviceGroupExposureScores(ctx)) },
	"Alerts":                    func(ctx context.Context, c *Client) string { return lastError(c.Alerts(ctx)) },
	"Diagnose": func(ctx context.Context, c *Client) string {
		var b strings.Builder
		_ = WriteDiagnoses(&b, []Diagnosis{{Tenant: "contoso", Checks: c.Diagnose(ctx, Need{Machines})}}, 0)
		return b.String()
	},
}

func lastError[Entity any](rows iter.Seq2[*Entity, error]) (last string) {
	for _, err := range rows {
		last = fmt.Sprint(err)
	}
	return last
}

func scoreError(_ float64, err error) string { return fmt.Sprint(err) }

// An echo is a server that repeats each request.
type echo struct {
	token  string
	answer func(shown string) (*http.Response, error)
	signIn bool // The sign-in host repeats the request and returns no token.
}

func (e echo) RoundTrip(r *http.Request) (*http.Response, error) {
	shown := r.Header.Get("Authorization")
	if r.Body != nil {
		_ = r.ParseForm()
		if !e.signIn {
			return respond(200, fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, e.token)), nil
		}
		shown = r.PostForm.Get("client_secret")
	}
	return e.answer(shown)
}

func respond(status int, body string, header ...string) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func TestClientMethodsMaskSecrets(t *testing.T) {
	for method := range reflect.TypeFor[*Client]().Methods() {
		for result := range method.Type.Outs() {
			switch result.Kind() {
			case reflect.Func, reflect.Interface, reflect.Slice, reflect.String:
				if calls[method.Name] == nil {
					t.Errorf("add the method %s to calls", method.Name)
				}
			}
		}
	}
	r := rand.New(rand.NewPCG(7, 9))
	token, password := randomText(r, base62+"-_.", 1500), randomText(r, base62+"~.-_", 40)
	garbage := strings.Repeat("garbage ", 400_000)
	for what, answer := range map[string]func(shown string) (*http.Response, error){
		"an error that repeats it": func(shown string) (*http.Response, error) {
			return respond(403, fmt.Sprintf(`{"error":{"code":%q,"message":"bad header: %s"}}`, shown, shown)), nil
		},
		"an error that repeats it in base64": func(shown string) (*http.Response, error) {
			encoded := base64.StdEncoding.EncodeToString([]byte("Authorization: " + shown))
			return respond(400, fmt.Sprintf(`{"error":{"code":"Bad","message":%q,"description":%q},"error_description":%q}`, encoded, encoded, encoded)), nil
		},
		"an OAuth error": func(shown string) (*http.Response, error) {
			return respond(400, fmt.Sprintf(`{"error":%q,"error_description":"secret %s"}`, shown, url.QueryEscape(shown))), nil
		},
		"a redirect": func(shown string) (*http.Response, error) {
			return respond(302, "", "Location", "https://"+strings.ReplaceAll(shown, " ", "")+".example/"), nil
		},
		"an encoding": func(shown string) (*http.Response, error) { return respond(200, `{}`, "Content-Encoding", shown), nil },
		"a broken header": func(shown string) (*http.Response, error) {
			return nil, fmt.Errorf("malformed MIME header line: %s %s", shown, garbage)
		},
		"a truncated body": func(shown string) (*http.Response, error) {
			response := respond(200, "")
			response.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"value":[`), iotest.ErrReader(errors.New("unexpected "+shown+garbage))))
			return response, nil
		},
		"a link": func(shown string) (*http.Response, error) {
			return respond(200, fmt.Sprintf(`{"@odata.nextLink":"https://%s.example/","value":[]}`, strings.ReplaceAll(shown, " ", ""))), nil
		},
		"a count": func(shown string) (*http.Response, error) {
			return respond(200, fmt.Sprintf(`{"organizationPrevalence":%q,"value":1}`, shown)), nil
		},
		"the proxy's password": func(string) (*http.Response, error) {
			return nil, fmt.Errorf("proxyconnect: %s, %s", password, base64.StdEncoding.EncodeToString([]byte("user:"+password)))
		},
		"the proxy's URL": func(string) (*http.Response, error) {
			return nil, errors.New(`invalid proxy address "http://user:pass%zzword@proxy": invalid URL escape "%zz"`)
		},
	} {
		for _, signIn := range []bool{false, true} {
			for name, call := range calls {
				synctest.Test(t, func(t *testing.T) {
					host := &url.URL{Scheme: "https", Host: "far.example"}
					c, err := New(Options{
						LoginURL: host, GraphURL: host, APIURL: host, GraphScope: "graph", APIScope: "api",
						Credential: ClientSecret{TenantID: "tenant", ClientID: "app", Secret: token[:700]},
						Transport:  echo{token: token, answer: answer, signIn: signIn},
						Secrets:    []string{password},
					})
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					said := call(ctx, c)
					for line := range strings.SplitSeq(said, "\n") {
						if len(line) > 4*maxText {
							t.Errorf("%s, %s: a line of %d bytes", name, what, len(line))
						}
					}
					for _, secret := range []string{token, password} {
						for i := range len(secret) - fragment + 1 {
							if strings.Contains(said, secret[i:i+fragment]) {
								t.Fatalf("%s, %s, sign-in %t: a secret is not masked in %s", name, what, signIn, said)
							}
						}
					}
					if strings.Contains(said, "pass%zzword") {
						t.Errorf("%s, %s: a password is not masked in %s", name, what, said)
					}
				})
			}
		}
	}
}
