package client

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// masking returns a redactor with the secrets.
func masking(secrets ...string) *redactor {
	r := &redactor{}
	for _, secret := range secrets {
		r.add("secret", secret)
	}
	return r
}

func TestWholeSecretIsMasked(t *testing.T) {
	const secret = "AZaz09-qw+er=ty/ui%op&as\"df\\gh<jk>lZA"
	exact := []string{
		"form-encoded", "path-encoded", "percent-encoded in lower case", "percent-encoded in either case", "JSON", "JSON with every character escaped",
		"JSON with escaped slashes", "escaped by hexadecimal numbers", "HTML", "HTML by numbers", "hexadecimal",
	}
	random := rand.New(rand.NewPCG(1, 1))
	encoded := map[string]string{
		"as it is": secret, "in lower case": strings.ToLower(secret), "in capitals": strings.ToUpper(secret),
		"the first 8 characters": secret[:8], "the last 8 characters": secret[len(secret)-8:],
		"with a number of three digits first": "&#065;" + secret[1:],
	}
	for _, encoding := range secretEncodings {
		if slices.Contains(exact, encoding.name) {
			encoded[encoding.name] = encoding.encode(random, secret)
		}
	}
	for name, text := range encoded {
		for _, around := range [][2]string{{"", ""}, {"x ", " y"}, {"“", "”"}} {
			want := around[0] + "<secret>" + around[1]
			if got := masking(secret).text(around[0] + text + around[1]); got != want {
				t.Errorf("%s: %q became %q, want %q", name, around[0]+text+around[1], got, want)
			}
		}
	}
}

func TestSecretsOfFourCharactersAreMasked(t *testing.T) {
	const long = "A1b2C3d4E5f6"
	for length := 3; length <= len(long); length++ {
		secret := long[:length]
		want := "key=<secret>"
		if length == 3 {
			want = "key=" + secret
		}
		if got := masking(secret).text("key=" + secret); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWrappedSecretIsMasked(t *testing.T) {
	const secret = "A1b2C3d4E5f6"
	for name, between := range map[string]string{
		"spaces": " ", "lines": "\r\n", "deleted characters": "\x7f", "characters that could not be read": "\uFFFD", "several of them": "\uFFFD \uFFFD\uFFFD",
	} {
		masked := masking(secret).text(secret[:4] + between + secret[4:8] + between + secret[8:])
		if strings.ContainsAny(masked, "123456") {
			t.Errorf("%s: %q", name, masked)
		}
	}
}

func TestLastThreeSecretsOfAKindAreMasked(t *testing.T) {
	r := masking("first-secret", "second-secret", "third-secret")
	r.add("secret", "second-secret") // It was added before.
	r.add("another", "other-secret")
	if got := r.text("first-secret second-secret third-secret other-secret"); got != "<secret> <secret> <secret> <secret>" {
		t.Errorf("after three secrets: %q", got)
	}
	r.add("secret", "4-pass-phrase")
	if got := r.text("second-secret third-secret 4-pass-phrase"); got != "<secret> <secret> <secret>" {
		t.Errorf("after four secrets: %q", got)
	}
}

func TestTextIsLimitedTo300Bytes(t *testing.T) {
	text := strings.Repeat("x", 300)
	if got := masking().text(text); got != text {
		t.Errorf("%q", got)
	}
	if got := masking().text(text + "y"); got != text+"…" {
		t.Errorf("%q", got)
	}
}

func TestNameWith16BytesOfASecretContainsSecret(t *testing.T) {
	const secret = "0123456789abcdefghijklmnop"
	for name, want := range map[string]bool{
		secret:                              true,
		secret[:16]:                         true,
		secret[:15]:                         false,
		"host-" + secret[4:20] + ".example": true,
		"host-" + secret[4:19] + ".example": false,
		"host.without.secret.example":       false,
	} {
		if got := masking(secret).containsSecret(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestSecretIsMaskedInNestedEncodings(t *testing.T) {
	const secret = "A1~b2~C3~d4~E5~f6~"
	inBase64 := base64.RawStdEncoding.EncodeToString
	percent := everyByte("%%%02x", secret)
	for name, encoded := range map[string]string{
		"base64":                               inBase64([]byte(secret)),
		"hexadecimal":                          hex.EncodeToString([]byte(secret)),
		"base64 of percent-encoded":            inBase64([]byte(percent)),
		"hexadecimal of percent-encoded":       hex.EncodeToString([]byte(percent)),
		"base64 of partly percent-encoded":     inBase64([]byte(strings.ReplaceAll(percent, "%7e", "~"))),
		"hexadecimal of base64 of hexadecimal": hex.EncodeToString([]byte(inBase64([]byte(hex.EncodeToString([]byte(secret)))))),
	} {
		for _, before := range []string{"", "a", "ab", "abc"} {
			if strings.HasPrefix(name, "hexadecimal") {
				before = before[:min(len(before), 1)]
			}
			if got := masking(secret).text(before + encoded); got != before+"<secret>" {
				t.Errorf("%s: %q became %q", name, before+encoded, got)
			}
		}
	}
	groups := strings.ReplaceAll(lines(percent, 6), "\r\n", " ")
	got := masking(secret).text(inBase64([]byte(groups)))
	if left := strings.ReplaceAll(got, "<secret>", ""); len(left) > strings.Count(groups, " ") {
		t.Errorf("base64 of percent-encoded in groups became %q", got)
	}
}
