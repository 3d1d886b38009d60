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

// lookup maps a name in another script to the A-labels under which it is looked
// up, as a browser does. Underscores, hyphens anywhere in a label and labels of
// both directions are allowed: standards of host names forbid them, but such
// names occur on block lists and resolve.
var lookup = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
)

// Parse returns the form in which a domain is watched: lower case,
// A-labels, without a trailing dot. It accepts every name that DNS can resolve
// as long as its labels consist of letters, digits, hyphens and underscores.
// Whatever is not the plain name of a domain is an error that says what it is
// instead.
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

// parse is Parse with errors that do not repeat the name, which may
// come from a file that holds a secret.
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

// toASCII returns the name in A-labels and lower case. A-labels that stand in
// the name already are only decoded, not judged: IDNA forbids many that resolve.
func toASCII(name string) (string, error) {
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		ascii, err := lookup.ToASCII(name)
		if err != nil {
			return "", errors.New("it has no A-labels by the rules of IDNA")
		}
		return ascii, nil
	}
	name = strings.ToLower(name)
	for label := range strings.SplitSeq(name, ".") {
		if encoded, ok := strings.CutPrefix(label, "xn--"); ok {
			if _, err := idna.Punycode.ToUnicode(label); err != nil || encoded == "" {
				return "", errors.New("a part that begins with xn-- is not Punycode")
			}
		}
	}
	return name, nil
}

// notADomain recognizes what lists of indicators hold besides domains.
func notADomain(name string) error {
	if name == "" {
		return errors.New("an empty name")
	}
	if !utf8.ValidString(name) {
		return errors.New("is not UTF-8 text")
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return errors.New("is an address, not a domain")
	}
	if _, err := netip.ParseAddrPort(name); err == nil {
		return errors.New("is an address with a port, not a domain")
	}
	if _, err := netip.ParsePrefix(name); err == nil {
		return errors.New("is a range of addresses, not a domain")
	}
	switch {
	case strings.Contains(name, "://"):
		return errors.New("is a URL: only its domain can be watched")
	case strings.ContainsAny(name, `/\?`):
		return errors.New("holds a path: only a domain can be watched")
	case strings.Contains(name, "@"):
		return errors.New("is an e-mail address, not a domain")
	case strings.Contains(name, "*"):
		return errors.New("holds a wildcard: each domain must be named")
	case strings.ContainsAny(name, "[](){}"):
		return errors.New("is defanged: write it with plain dots")
	case strings.Contains(name, ":"):
		return errors.New("holds a port: only a domain can be watched")
	case strings.ContainsFunc(name, unicode.IsSpace):
		return errors.New("holds a space: write one domain a line")
	}
	return nil
}

// checkLabels checks what DNS and the resolvers ask of a name in A-labels.
func checkLabels(name string) error {
	const maxName, maxLabel = 253, 63
	if len(name) > maxName {
		return fmt.Errorf("longer than %d characters", maxName)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		switch {
		case label == "":
			return errors.New("empty between two dots")
		case len(label) > maxLabel:
			return fmt.Errorf("a part is longer than %d characters", maxLabel)
		}
		if i := strings.IndexFunc(label, notAllowed); i >= 0 {
			return fmt.Errorf("it holds %q", label[i])
		}
	}
	if len(labels) == 1 {
		return errors.New("it has no dot")
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return errors.New("it ends in a number, as addresses do")
	}
	return nil
}

func notAllowed(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// excerpt quotes what an operator wrote, short enough for one line of a log.
func excerpt(s string) string {
	const limit = 80
	if len(s) > limit {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:limit], ""))
	}
	return fmt.Sprintf("%q", s)
}
