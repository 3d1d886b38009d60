package domains

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/mde-exporter/mde_exporter/client"
)

// idnaProfile converts an internationalized name to A-labels, as a browser does before
// a DNS lookup. It also allows underscores, hyphens anywhere in a label, and labels of
// both directions: standards for host names forbid these, but such names occur on block
// lists and resolve.
var idnaProfile = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
)

// Parse normalizes a domain: lower case, A-labels, no trailing dot. It accepts every
// name that DNS can resolve if its labels consist of letters, digits, hyphens and
// underscores. The error for anything else says what the name is instead.
func Parse(name string) (string, error) {
	domain, err := parse(name)
	if err == nil || strings.TrimSpace(name) == "" {
		return domain, err
	}
	if strings.Contains(name, "://") {
		name = client.MaskURL(name)
	}
	return "", fmt.Errorf("%s %w", excerpt(name), err)
}

// parse is Parse, but its errors do not contain the name, which may come from a file
// with secrets.
func parse(name string) (string, error) {
	name = strings.TrimSpace(name)
	if err := notADomain(name); err != nil {
		return "", err
	}
	ascii, err := toASCII(name)
	if err != nil {
		return "", fmt.Errorf("is not a domain: %w", err)
	}
	ascii = strings.TrimSuffix(ascii, ".")
	if err := checkLabels(ascii); err != nil {
		return "", fmt.Errorf("is not a domain: %w", err)
	}
	return ascii, nil
}

// toASCII returns the name in A-labels and lower case. A-labels in the name need only
// be valid Punycode: IDNA forbids many that resolve.
func toASCII(name string) (string, error) {
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		ascii, err := idnaProfile.ToASCII(name)
		if err != nil {
			return "", errors.New("it cannot be converted to A-labels by IDNA")
		}
		return ascii, nil
	}
	name = strings.ToLower(name)
	for label := range strings.SplitSeq(name, ".") {
		if encoded, ok := strings.CutPrefix(label, "xn--"); ok {
			if _, err := idna.Punycode.ToUnicode(label); err != nil || encoded == "" {
				return "", errors.New("a label that begins with xn-- is not Punycode")
			}
		}
	}
	return name, nil
}

// notADomain returns an error if the name is something else that occurs on lists of
// indicators.
func notADomain(name string) error {
	if name == "" {
		return errors.New("an empty name")
	}
	if !utf8.ValidString(name) {
		return errors.New("is not UTF-8 text")
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return errors.New("is an IP address, not a domain")
	}
	if _, err := netip.ParseAddrPort(name); err == nil {
		return errors.New("is an IP address with a port, not a domain")
	}
	if _, err := netip.ParsePrefix(name); err == nil {
		return errors.New("is a range of IP addresses, not a domain")
	}
	switch {
	case strings.Contains(name, "://"):
		return errors.New("is a URL: only its domain can be watched")
	case strings.ContainsAny(name, `/\?`):
		return errors.New("contains a path: only a domain can be watched")
	case strings.Contains(name, "@"):
		return errors.New("is an e-mail address, not a domain")
	case strings.Contains(name, "*"):
		return errors.New("contains a wildcard: list each domain")
	case strings.ContainsAny(name, "[](){}"):
		return errors.New("is defanged: write it with plain dots")
	case strings.Contains(name, ":"):
		return errors.New("contains a port: only a domain can be watched")
	case strings.ContainsFunc(name, unicode.IsSpace):
		return errors.New("contains a space: write one domain per line")
	}
	return nil
}

// checkLabels checks a name in A-labels against the rules of DNS and resolvers.
func checkLabels(name string) error {
	const maxName, maxLabel = 253, 63
	if len(name) > maxName {
		return fmt.Errorf("longer than %d characters", maxName)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		switch {
		case label == "":
			return errors.New("empty label between two dots")
		case len(label) > maxLabel:
			return fmt.Errorf("a label is longer than %d characters", maxLabel)
		}
		if i := strings.IndexFunc(label, notAllowed); i >= 0 {
			return fmt.Errorf("it contains %q", label[i])
		}
	}
	if len(labels) == 1 {
		return errors.New("it has no dot")
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return errors.New("it ends in a number, like an IP address")
	}
	return nil
}

func notAllowed(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// excerpt quotes the operator's text, shortened to fit a log line.
func excerpt(s string) string {
	const limit = 80
	if len(s) > limit {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:limit], ""))
	}
	return fmt.Sprintf("%q", s)
}
