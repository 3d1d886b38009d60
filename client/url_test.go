package client

import (
	"net/url"
	"slices"
	"testing"
)

func TestURLSecretsAreMasked(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "",
		"http://proxy.example:3128":           "http://proxy.example:3128",
		"http://proxy.example:3128/path/":     "http://proxy.example:3128/path/",
		"http://user:pass@proxy.example:3128": "http://user:<secret>@proxy.example:3128",
		"http://user:@proxy.example":          "http://user:<secret>@proxy.example",
		"http://token@proxy.example":          "http://<secret>@proxy.example",
		"http://proxy.example?key=pass":       "http://proxy.example?<secret>",
		"http://u:p@proxy.example/a?b=c#d":    "http://u:<secret>@proxy.example/a?<secret>#<secret>",
		"//token@proxy.example":               "//<secret>@proxy.example",
		"http://user:pa ss@proxy.example":     "<secret>",
		"user:pass@proxy.example":             "<secret>",
		"pass":                                "<secret>",
	} {
		if got := MaskURL(text); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}

func TestURLSecrets(t *testing.T) {
	for text, want := range map[string][]string{
		"http://user:p%40ss@proxy.example":       {"p@ss"},
		"http://token@proxy.example?a=b+c&d=e#f": {"b c", "e", "f", "token"},
		"http://proxy.example":                   nil,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(slices.Values(URLSecrets(u))); !slices.Equal(got, want) {
			t.Errorf("secrets %q of %s, want %q", got, text, want)
		}
	}
}
