package domains_test

import (
	"strings"
	"testing"

	"github.com/mde-exporter/mde_exporter/collector/domains"
)

func TestADomainIsWatchedUnderOneName(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"as it is", "evil.example", "evil.example"},
		{"in capitals", "Evil.EXAMPLE", "evil.example"},
		{"with a trailing dot", "evil.example.", "evil.example"},
		{"amid spaces", " evil.example\t", "evil.example"},
		{"in another script", "bücher.example", "xn--bcher-kva.example"},
		{"as an A-label", "XN--bcher-kva.example", "xn--bcher-kva.example"},
		{"with a sharp s, which is no double s", "straße.example", "xn--strae-oqa.example"},
		{"with full-width letters and dots", "ｅｖｉｌ。example", "evil.example"},
		{"with an underscore", "_dmarc.evil.example", "_dmarc.evil.example"},
		{"with hyphens in the third and fourth place", "r3---sn-4g5e6nsz.evil.example", "r3---sn-4g5e6nsz.evil.example"},
		{"with a number for a label", "1.2.example", "1.2.example"},
		{"with a label that begins with a hyphen", "-x3.ads.example", "-x3.ads.example"},
		{"with a label that ends with a hyphen", "Collector-.tracker.example", "collector-.tracker.example"},
		{"with a hyphen for a label", "-.example", "-.example"},
		{"with underscores alone", "__.a_.example", "__.a_.example"},
		{"with two hyphens in the third and fourth place", "ab--c.example", "ab--c.example"},
		{"of an emoji", "💩.example", "xn--ls8h.example"},
		{"of an emoji as an A-label", "xn--ls8h.example", "xn--ls8h.example"},
		{"with a number beside a script from right to left", "1.xn--4dbrk0ce.example", "1.xn--4dbrk0ce.example"},
		{"with a number beside a script from right to left, decoded", "1.ישראל.example", "1.xn--4dbrk0ce.example"},
		{"with an A-label that IDNA disallows", "xn--u-ccb.example", "xn--u-ccb.example"},
		{"of the greatest length of a label", strings.Repeat("a", 63) + ".example", strings.Repeat("a", 63) + ".example"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := domains.Parse(test.in)
			if err != nil || got != test.want {
				t.Errorf("ParseDomain(%q) = %q, %v, want %q", test.in, got, err, test.want)
			}
		})
	}
}

func TestWhatIsNoDomainIsRefused(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"nothing", "", "an empty name"},
		{"spaces", "  ", "an empty name"},
		{"a URL", "https://evil.example", "is a URL"},
		{"a defanged URL", "hxxps://evil[.]example/x", "is a URL"},
		{"a defanged domain", "evil[.]example", "defanged: write it with plain dots"},
		{"a path", "evil.example/x", "holds a path"},
		{"a query", "evil.example?x", "holds a path"},
		{"a port", "evil.example:443", "holds a port"},
		{"an e-mail address", "me@evil.example", "is an e-mail address"},
		{"a wildcard", "*.evil.example", "holds a wildcard"},
		{"a wildcard amid a label", "ev*l.example", "holds a wildcard"},
		{"an IPv4 address", "192.0.2.1", "is an address, not a domain"},
		{"an IPv6 address", "2001:db8::1", "is an address, not a domain"},
		{"an IPv6 address in brackets", "[2001:db8::1]", "is an address, not a domain"},
		{"an address with a port", "192.0.2.1:80", "is an address with a port"},
		{"a range of addresses", "192.0.2.0/24", "is a range of addresses"},
		{"a part of an address", "192.0.2", "it ends in a number, as addresses do"},
		{"two domains", "a.example b.example", "holds a space: write one domain a line"},
		{"two domains with a comma", "a.example,b.example", `it holds ','`},
		{"a line of a hosts file", "0.0.0.0 evil.example", "holds a space"},
		{"a name without a dot", "localhost", "it has no dot"},
		{"a leading dot", ".evil.example", "empty between two dots"},
		{"two dots", "evil..example", "empty between two dots"},
		{"two trailing dots", "evil.example..", "empty between two dots"},
		{"a dot", ".", "is not a domain"},
		{"a label too long", strings.Repeat("a", 64) + ".example", "a part is longer than 63 characters"},
		{"a name too long", strings.Repeat("a.", 130) + "example", "longer than 253 characters"},
		{"a label too long as an A-label", strings.Repeat("ü", 60) + ".example", "a part is longer than 63 characters"},
		{"a broken A-label", "xn--a-ecp\u200d.example", "is not a domain"},
		{"broken punycode", "xn--999999b.example", "is not a domain"},
		{"an A-label of nothing", "xn--.example", "is not a domain"},
		{"an apostrophe", "a'b.example", "it holds '\\''"},
		{"a control character", "evil\x00.example", "is not a domain"},
		{"broken UTF-8", "evil\xff.example", "is not UTF-8 text"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := domains.Parse(test.in)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ParseDomain(%q) = %q, %v, want an error with %q", test.in, got, err, test.want)
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
				t.Errorf("ParseDomain(%q) = %q, %q", name, domain, err)
			}
			return
		}
		again, err := domains.Parse(domain)
		if err != nil || again != domain {
			t.Errorf("%q became %q, and that %q, %v", name, domain, again, err)
		}
		if len(domain) > 253 || strings.Trim(domain, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" ||
			strings.HasPrefix(domain, ".") || strings.HasSuffix(domain, ".") || strings.Contains(domain, "..") {
			t.Errorf("%q became %q", name, domain)
		}
	})
}
