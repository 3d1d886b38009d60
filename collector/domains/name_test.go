package domains_test

import (
	"strings"
	"testing"

	"github.com/mde-exporter/mde_exporter/collector/domains"
)

func TestParseNormalizes(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"unchanged", "evil.example", "evil.example"},
		{"in capitals", "Evil.EXAMPLE", "evil.example"},
		{"with a trailing dot", "evil.example.", "evil.example"},
		{"surrounded by spaces", " evil.example\t", "evil.example"},
		{"in another script", "bücher.example", "xn--bcher-kva.example"},
		{"as an A-label", "XN--bcher-kva.example", "xn--bcher-kva.example"},
		{"with a sharp s, which differs from ss", "straße.example", "xn--strae-oqa.example"},
		{"with full-width letters and dots", "ｅｖｉｌ。example", "evil.example"},
		{"with an underscore", "_dmarc.evil.example", "_dmarc.evil.example"},
		{"with hyphens in positions 3 and 4", "r3---sn-4g5e6nsz.evil.example", "r3---sn-4g5e6nsz.evil.example"},
		{"with a number for a label", "1.2.example", "1.2.example"},
		{"with a label that begins with a hyphen", "-x3.ads.example", "-x3.ads.example"},
		{"with a label that ends with a hyphen", "Collector-.tracker.example", "collector-.tracker.example"},
		{"with a hyphen as a label", "-.example", "-.example"},
		{"with labels of underscores", "__.a_.example", "__.a_.example"},
		{"with exactly two hyphens in positions 3 and 4", "ab--c.example", "ab--c.example"},
		{"emoji", "💩.example", "xn--ls8h.example"},
		{"emoji as an A-label", "xn--ls8h.example", "xn--ls8h.example"},
		{"with a number next to a right-to-left script", "1.xn--4dbrk0ce.example", "1.xn--4dbrk0ce.example"},
		{"with a number next to a right-to-left script, decoded", "1.ישראל.example", "1.xn--4dbrk0ce.example"},
		{"with an A-label that IDNA disallows", "xn--u-ccb.example", "xn--u-ccb.example"},
		{"with a label of the maximum length", strings.Repeat("a", 63) + ".example", strings.Repeat("a", 63) + ".example"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := domains.Parse(test.in)
			if err != nil || got != test.want {
				t.Errorf("Parse(%q) = %q, %v, want %q", test.in, got, err, test.want)
			}
		})
	}
}

func TestParseRejectsOtherNames(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"nothing", "", "an empty name"},
		{"spaces", "  ", "an empty name"},
		{"a URL", "https://evil.example", "is a URL"},
		{"a defanged URL", "hxxps://evil[.]example/x", "is a URL"},
		{"a defanged domain", "evil[.]example", "defanged: write it with plain dots"},
		{"a path", "evil.example/x", "contains a path"},
		{"a query", "evil.example?x", "contains a path"},
		{"a port", "evil.example:443", "contains a port"},
		{"an e-mail address", "me@evil.example", "is an e-mail address"},
		{"a wildcard", "*.evil.example", "contains a wildcard"},
		{"a wildcard inside a label", "ev*l.example", "contains a wildcard"},
		{"an IPv4 address", "192.0.2.1", "is an IP address, not a domain"},
		{"an IPv6 address", "2001:db8::1", "is an IP address, not a domain"},
		{"an IPv6 address in brackets", "[2001:db8::1]", "is an IP address, not a domain"},
		{"an address with a port", "192.0.2.1:80", "is an IP address with a port"},
		{"a range of addresses", "192.0.2.0/24", "is a range of IP addresses"},
		{"a part of an address", "192.0.2", "it ends in a number, like an IP address"},
		{"two domains", "a.example b.example", "contains a space: write one domain per line"},
		{"two domains with a comma", "a.example,b.example", `it contains ','`},
		{"a line of a hosts file", "0.0.0.0 evil.example", "contains a space"},
		{"a name without a dot", "localhost", "it has no dot"},
		{"a leading dot", ".evil.example", "empty label between two dots"},
		{"two dots", "evil..example", "empty label between two dots"},
		{"two trailing dots", "evil.example..", "empty label between two dots"},
		{"a dot", ".", "is not a domain"},
		{"a label too long", strings.Repeat("a", 64) + ".example", "a label is longer than 63 characters"},
		{"a name too long", strings.Repeat("a.", 130) + "example", "longer than 253 characters"},
		{"a label too long as an A-label", strings.Repeat("ü", 60) + ".example", "a label is longer than 63 characters"},
		{"a broken A-label", "xn--a-ecp\u200d.example", "is not a domain"},
		{"broken punycode", "xn--999999b.example", "is not a domain"},
		{"an empty A-label", "xn--.example", "is not a domain"},
		{"an apostrophe", "a'b.example", "it contains '\\''"},
		{"a control character", "evil\x00.example", "is not a domain"},
		{"broken UTF-8", "evil\xff.example", "is not UTF-8 text"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := domains.Parse(test.in)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Parse(%q) = %q, %v, want an error with %q", test.in, got, err, test.want)
			}
		})
	}
}

func FuzzParseDomain(f *testing.F) {
	for _, name := range []string{
		"evil.example", "Bücher.example.", "xn--bcher-kva.example", "https://a.example/", "*.a.example", "192.0.2.1",
		"a..example", "ｅｖｉｌ。example", "_a.-b.c", "xn--0.example", "\u200d.example", "evil\xff.example",
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		domain, err := domains.Parse(name)
		if err != nil {
			if domain != "" || strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > 600 {
				t.Errorf("Parse(%q) = %q, %q", name, domain, err)
			}
			return
		}
		again, err := domains.Parse(domain)
		if err != nil || again != domain {
			t.Errorf("%q is parsed to %q, and that to %q, %v", name, domain, again, err)
		}
		if len(domain) > 253 || strings.Trim(domain, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" ||
			strings.HasPrefix(domain, ".") || strings.HasSuffix(domain, ".") || strings.Contains(domain, "..") {
			t.Errorf("%q is parsed to %q", name, domain)
		}
	})
}

func TestNamesAtTheLimitsOfDNS(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 49)+".", 5) // 250 bytes.
	for name, want := range map[string]string{
		"az.09-_.example": "", long + "abc": "", long + "abcd": "longer than 253",
		"a.example:b": "port", "`a.example": "'`'", "{a.example": "defanged", "a.exampl\x7f": "is not a domain", "xn--u-ccb.exampl\x7f": `it contains '\x7f'`,
	} {
		_, err := domains.Parse(name)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", name, err, want)
		}
	}
}

func TestLongNameIsTruncatedInItsError(t *testing.T) {
	for n, cut := range map[int]bool{80: false, 81: true} {
		_, err := domains.Parse(strings.Repeat("a", n))
		if err == nil || strings.Contains(err.Error(), `"…`) != cut {
			t.Errorf("a name of %d bytes: %v", n, err)
		}
	}
}

func TestLongNameIsTruncatedBetweenCharacters(t *testing.T) {
	_, err := domains.Parse(strings.Repeat("a", 79) + "ü.example")
	if err == nil || !strings.Contains(err.Error(), `aaa"…`) {
		t.Errorf("error %v", err)
	}
}
