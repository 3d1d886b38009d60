package client

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// A redactor masks the secrets of one tenant in text from outside, in any encoding, and
// limits the length of the text. Every error of this package passes it before it is
// returned. The nil redactor has no secrets and only limits the length. A redactor is safe
// for concurrent use.
type redactor struct {
	mu      sync.Mutex
	secrets map[string][]string
	index   *secretIndex // Of secrets, nil until it is needed.
}

// secretIndex is an immutable index that finds secrets in folded text.
type secretIndex struct {
	fragments map[uint64]struct{}
	short     []string // The secrets shorter than a fragment.
}

const (
	// maxText is the maximum length in bytes of a text from outside in an error.
	maxText = 300
	// maxScannedText is how many bytes of a text are scanned. It is larger than maxText
	// because white space and masked secrets are shortened.
	maxScannedText = 4 * maxText
	// minSecret is the length of the shortest secret that is masked. Shorter ones occur in
	// too many words.
	minSecret = 4
	// fragment is the number of consecutive characters of a secret that are masked, so that
	// no long part of a truncated secret remains.
	fragment = 8
	// minSecretInName is the number of bytes of secrets for which containsSecret returns
	// true. Fewer bytes may be a common word in a password.
	minSecretInName = 16
	// keptSecrets is how many secrets of a kind are masked: the current one and those that
	// it replaced, which calls in progress may still use.
	keptSecrets = 3
	// maxEncodings is how many nested encodings are decoded.
	maxEncodings = 3

	maskedSecret = "<secret>"
)

// add adds a secret to mask. It replaces the oldest one of its kind.
func (r *redactor) add(kind, secret string) {
	if r == nil || len(secret) < minSecret || strings.Contains(maskedSecret, strings.ToLower(secret)) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(r.secrets[kind]), func(s string) bool { return s == secret })
	kept = append(kept, secret)
	if r.secrets == nil {
		r.secrets = make(map[string][]string)
	}
	r.secrets[kind] = kept[max(0, len(kept)-keptSecrets):]
	r.index = nil
}

// error returns err with every text in it masked, cleaned and limited. errors.Is and
// errors.As still find the wrapped errors.
func (r *redactor) error(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok { //nolint:errorlint // An error that wraps an Error has its own text.
		return r.apiError(e)
	}
	text := err.Error()
	clean := r.text(text)
	if e, ok := errors.AsType[*Error](err); ok {
		return &redactedError{text: clean, causes: []error{r.apiError(e), err}}
	}
	if clean == text {
		return err
	}
	return &redactedError{text: clean, causes: []error{err}}
}

func (r *redactor) apiError(e *Error) *Error {
	clean := *e
	clean.Code = r.text(e.Code)
	clean.Message = r.text(e.Message)
	clean.Err = r.error(e.Err)
	clean.advice = r.mask(e.advice)
	return &clean
}

// A redactedError replaces the text of other errors.
type redactedError struct {
	text   string
	causes []error
}

func (e *redactedError) Error() string   { return e.text }
func (e *redactedError) Unwrap() []error { return e.causes }

// text returns the masked text as one line of printable characters, with at most maxText
// bytes.
func (r *redactor) text(text string) string {
	text = r.mask(text[:min(len(text), maxScannedText)])
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// userInformation matches the user information of a URL in a text. It also matches invalid
// characters, such as a slash in a password.
var userInformation = regexp.MustCompile(`://[^\s"'<>]*@`)

// mask replaces every secret, and the user information of URLs.
func (r *redactor) mask(text string) string {
	text = userInformation.ReplaceAllString(text, "://"+maskedSecret+"@")
	found := r.search(text)
	if found == nil {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !found[i]:
			b.WriteByte(text[i])
		case i == 0 || !found[i-1]:
			b.WriteString(maskedSecret)
		}
	}
	return b.String()
}

// containsSecret reports whether at least minSecretInName bytes of the text belong to
// secrets, which is no coincidence.
func (r *redactor) containsSecret(text string) bool {
	if len(text) < minSecretInName {
		return false
	}
	secret := 0
	for _, found := range r.search(text) {
		if found {
			secret++
		}
	}
	return secret >= minSecretInName
}

// search returns which bytes of a text belong to a secret, or nil if there are no secrets.
func (r *redactor) search(text string) (found []bool) {
	index := r.secretIndex()
	if index == nil || text == "" {
		return nil
	}
	s := &search{found: make([]bool, len(text)), secrets: index}
	whole := newView(len(text))
	for i := range len(text) {
		whole.add(text[i], i, i+1)
	}
	s.searchView(whole, maxEncodings)
	return s.found
}

// secretIndex returns the index of the secrets, or nil if there are none.
func (r *redactor) secretIndex() *secretIndex {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index != nil || len(r.secrets) == 0 {
		return r.index
	}
	index := &secretIndex{fragments: make(map[uint64]struct{})}
	for _, secrets := range r.secrets {
		for _, secret := range secrets {
			folded := fold(make([]byte, 0, len(secret)), []byte(secret))
			if len(folded) < fragment {
				index.short = append(index.short, string(folded))
			}
			for i := range len(folded) - fragment + 1 {
				index.fragments[binary.LittleEndian.Uint64(folded[i:])] = struct{}{}
			}
		}
	}
	r.index = index
	return index
}

// search finds the secrets in one text, in every encoding.
type search struct {
	found   []bool // The bytes of the text that belong to a secret.
	secrets *secretIndex
	folded  []byte
}

// A view is a decoded text. Its byte i was decoded from the bytes from[i] to to[i] of the
// original text.
type view struct {
	bytes    []byte
	from, to []int
}

func newView(capacity int) view {
	return view{bytes: make([]byte, 0, capacity), from: make([]int, 0, capacity), to: make([]int, 0, capacity)}
}

func (v *view) add(b byte, from, to int) {
	v.bytes = append(v.bytes, b)
	v.from = append(v.from, from)
	v.to = append(v.to, to)
}

// searchView marks the bytes of the text that are secrets in the view, or in the view
// after further decoding.
func (s *search) searchView(v view, encodings int) {
	s.scan(v)
	s.scan(v.withoutSpace())
	if encodings == 0 {
		return
	}
	for _, e := range escapes {
		if bytes.IndexByte(v.bytes, e.first) >= 0 {
			s.searchView(v.unescaped(e), encodings-1)
		}
	}
	for offset := range 4 {
		s.searchDecoded(v.regrouped(&base64Digits, 6, offset), encodings-1)
	}
	for offset := range 2 {
		s.searchDecoded(v.regrouped(&hexDigits, 4, offset), encodings-1)
	}
}

// searchDecoded searches the decoded bytes of what may be base64 or hexadecimal digits. It
// decodes further only if they contain printable text, unlike the bytes decoded from words
// that merely look like base64.
func (s *search) searchDecoded(v view, encodings int) {
	printable := 0
	for _, b := range v.bytes {
		if printable++; b < ' ' || b > '~' {
			printable = 0
		}
		if printable > fragment {
			s.searchView(v, encodings)
			return
		}
	}
	s.searchView(v, 0)
}

// scan marks the secrets in the view, without further decoding.
func (s *search) scan(v view) {
	s.folded = fold(s.folded[:0], v.bytes)
	for i := range len(s.folded) - fragment + 1 {
		if _, ok := s.secrets.fragments[binary.LittleEndian.Uint64(s.folded[i:])]; ok {
			s.mark(v, i, fragment)
		}
	}
	for _, secret := range s.secrets.short {
		for i := range len(s.folded) - len(secret) + 1 {
			if string(s.folded[i:i+len(secret)]) == secret {
				s.mark(v, i, len(secret))
			}
		}
	}
}

func (s *search) mark(v view, start, length int) {
	for i := start; i < start+length; i++ {
		for at := v.from[i]; at < v.to[i]; at++ {
			s.found[at] = true
		}
	}
}

// fold converts text to lower case and plus signs, which forms use for spaces, to spaces.
func fold(dst, text []byte) []byte {
	for _, b := range text {
		switch {
		case 'A' <= b && b <= 'Z':
			b += 'a' - 'A'
		case b == '+':
			b = ' '
		}
		dst = append(dst, b)
	}
	return dst
}

func isSpace(b byte) bool { return b <= ' ' || b == 0x7f }

// withoutSpace returns the view without white space, control characters and replacement
// characters. It finds secrets in wrapped text and in UTF-16 that was read as bytes.
func (v view) withoutSpace() view {
	packed := newView(len(v.bytes))
	for i := 0; i < len(v.bytes); i++ {
		switch b := v.bytes[i]; {
		case isSpace(b):
		case bytes.HasPrefix(v.bytes[i:], replacement):
			i += len(replacement) - 1
		default:
			packed.add(b, v.from[i], v.to[i])
		}
	}
	return packed
}

var replacement = []byte(string(utf8.RuneError))

// An escape is a kind of escape sequence that begins with the byte first. decode returns
// the decoded bytes of the escape at the start of text and its length, 0 if there is none.
type escape struct {
	first  byte
	decode func(text []byte) (meaning []byte, length int)
}

var escapes = []escape{{'%', percentEscape}, {'\\', backslashEscape}, {'&', entityEscape}}

// unescaped returns the view with its escapes decoded.
func (v view) unescaped(e escape) view {
	decoded := newView(len(v.bytes))
	for i := 0; i < len(v.bytes); {
		var meaning []byte
		length := 0
		if v.bytes[i] == e.first {
			meaning, length = e.decode(v.bytes[i:])
		}
		if length == 0 {
			decoded.add(v.bytes[i], v.from[i], v.to[i])
			i++
			continue
		}
		for _, b := range meaning {
			decoded.add(b, v.from[i], v.to[i+length-1])
		}
		i += length
	}
	return decoded
}

// percentEscape decodes %41.
func percentEscape(text []byte) ([]byte, int) {
	if len(text) < 3 {
		return nil, 0
	}
	b, err := hex.DecodeString(string(text[1:3]))
	if err != nil {
		return nil, 0
	}
	return b, 3
}

// backslashEscape decodes \u0041, \x41, \n and \" as JSON, JavaScript and Go do.
func backslashEscape(text []byte) ([]byte, int) {
	if len(text) < 2 {
		return nil, 0
	}
	var pair string // A surrogate pair is two escapes.
	if len(text) >= 12 && json.Unmarshal([]byte(`"`+string(text[:12])+`"`), &pair) == nil && text[1] == 'u' && utf8.RuneCountInString(pair) == 1 {
		return []byte(pair), 12
	}
	escaped := string(text[:min(len(text), 6)])
	switch r, multibyte, rest, err := strconv.UnquoteChar(escaped, text[1]); {
	case err == nil && multibyte:
		return utf8.AppendRune(nil, r), len(escaped)
	case err == nil:
		return []byte{byte(r)}, len(escaped) - len(rest)
	case text[1] == 'u' || text[1] == 'x':
		return nil, 0
	default:
		return text[1:2], 2
	}
}

// entityEscape decodes &#65; and &quot; of HTML and XML.
func entityEscape(text []byte) ([]byte, int) {
	end := slices.Index(text[:min(len(text), 12)], ';')
	if end < 0 {
		return nil, 0
	}
	entity := string(text[:end+1])
	meaning := html.UnescapeString(entity)
	if meaning == entity {
		return nil, 0
	}
	return []byte(meaning), len(entity)
}

// digits maps characters to their values as digits, and other characters to -1.
type digits [256]int8

func newDigits(alphabets ...string) (d digits) {
	for i := range d {
		d[i] = -1
	}
	for _, alphabet := range alphabets {
		for value, c := range []byte(alphabet) {
			d[c] = int8(value)
		}
	}
	return d
}

const base62 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

var (
	base64Digits = newDigits(base62+"+/", base62+"-_")
	hexDigits    = newDigits("0123456789abcdef", "0123456789ABCDEF")
)

// regrouped decodes every run of digits in the view to bytes. Each digit has the given
// number of bits. The first offset digits of a run are skipped, because a character before
// the encoded text may look like a digit. White space does not end a run.
func (v view) regrouped(values *digits, bits, offset int) view {
	decoded := newView(len(v.bytes)*bits/8 + 1)
	var held, width, start, skipped int
	for i, b := range v.bytes {
		value := values[b]
		switch {
		case isSpace(b):
			continue
		case value < 0:
			held, width, skipped = 0, 0, 0
			continue
		case skipped < offset:
			skipped++
			continue
		}
		if width == 0 {
			start = v.from[i]
		}
		held, width = held<<bits|int(value), width+bits
		if width >= 8 {
			width -= 8
			decoded.add(byte(held>>width), start, v.to[i])
			held &= 1<<width - 1
			start = v.from[i]
		}
	}
	return decoded
}
