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

// A redactor makes text from outside fit to be printed: it masks the secrets of
// one tenant in whatever spelling a far end repeats them, and bounds the length.
// Every error passes it before it leaves this package. The nil redactor knows no
// secret and still bounds. A redactor is safe for concurrent use.
type redactor struct {
	mu    sync.Mutex
	known map[string][]string
	index *secretIndex // Of what is known, nil until somebody asks for it.
}

// secretIndex finds secrets in folded text. It is immutable.
type secretIndex struct {
	fragments map[uint64]struct{}
	short     []string // The secrets shorter than a fragment.
}

const (
	// maxText bounds what an error repeats of the words of others.
	maxText = 300
	// maxScannedText is how much of a text is looked at: what is printed of it
	// may be shorter than what it takes, by white space and masked secrets.
	maxScannedText = 4 * maxText
	// minSecret is the length of the shortest text that is masked. A shorter one
	// is part of too many words.
	minSecret = 4
	// fragment is how many characters of a secret in a row are masked wherever
	// they occur, so that a secret that somebody cut leaves no long part.
	fragment = 8
	// secretInName is how much of a secret makes a name one that is not shown. Less
	// may be a word that somebody has in a password.
	secretInName = 16
	// keptSecrets is how many secrets of a kind are known: the current one, and
	// those it replaced, which calls under way may still show.
	keptSecrets = 3
	// maxEncodings is how many encodings around each other are seen through.
	maxEncodings = 3

	maskedSecret = "<secret>"
)

// learn makes the secret one to mask, in the place of older ones of its kind.
func (r *redactor) learn(kind, secret string) {
	if r == nil || len(secret) < minSecret || strings.Contains(maskedSecret, strings.ToLower(secret)) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(r.known[kind]), func(s string) bool { return s == secret })
	kept = append(kept, secret)
	if r.known == nil {
		r.known = make(map[string][]string)
	}
	r.known[kind] = kept[max(0, len(kept)-keptSecrets):]
	r.index = nil
}

// error returns err with every text in it masked, cleaned and bounded. What it
// wraps is still found by errors.Is and errors.As.
func (r *redactor) error(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok { //nolint:errorlint // What wraps an Error has a text of its own.
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

// A redactedError stands for errors whose text is not to be printed.
type redactedError struct {
	text   string
	causes []error
}

func (e *redactedError) Error() string   { return e.text }
func (e *redactedError) Unwrap() []error { return e.causes }

// text returns the text masked, in one line of printable characters and with at
// most maxText bytes.
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

// userInformation is that of a URL amid a text. It may hold what cannot stand in
// one, such as a slash in a password.
var userInformation = regexp.MustCompile(`://[^\s"'<>]*@`)

// mask replaces every secret, and what may be one in a URL.
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

// holdsSecret reports whether so much of the text belongs to a secret that this is
// no coincidence: secretInName bytes or more.
func (r *redactor) holdsSecret(text string) bool {
	if len(text) < secretInName {
		return false
	}
	secret := 0
	for _, found := range r.search(text) {
		if found {
			secret++
		}
	}
	return secret >= secretInName
}

// search returns which bytes of a text belong to a secret, nil where nothing is known
// to be one.
func (r *redactor) search(text string) (found []bool) {
	index := r.indexed()
	if index == nil || text == "" {
		return nil
	}
	s := &search{found: make([]bool, len(text)), secrets: index}
	whole := newView(len(text))
	for i := range len(text) {
		whole.add(text[i], i, i+1)
	}
	s.look(whole, maxEncodings)
	return s.found
}

// indexed returns the index of the secrets, nil where there are none.
func (r *redactor) indexed() *secretIndex {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index != nil || len(r.known) == 0 {
		return r.index
	}
	index := &secretIndex{fragments: make(map[uint64]struct{})}
	for _, secrets := range r.known {
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

// search is the search for the secrets in one text, behind every encoding.
type search struct {
	found   []bool // The bytes of the text that belong to a secret.
	secrets *secretIndex
	folded  []byte
}

// A view is the text after some decoding: byte i comes from the text's bytes from
// from[i] to to[i].
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

// look marks what of the text is a secret in the view or behind further encodings.
func (s *search) look(v view, encodings int) {
	s.scan(v)
	s.scan(v.withoutSpace())
	if encodings == 0 {
		return
	}
	for _, e := range escapes {
		if bytes.IndexByte(v.bytes, e.first) >= 0 {
			s.look(v.unescaped(e), encodings-1)
		}
	}
	for offset := range 4 {
		s.lookIntoBytes(v.regrouped(&base64Digits, 6, offset), encodings-1)
	}
	for offset := range 2 {
		s.lookIntoBytes(v.regrouped(&hexDigits, 4, offset), encodings-1)
	}
}

// lookIntoBytes looks at what may be encoded text, or no more than words that look
// like it: these do not decode to text that could hold further encodings.
func (s *search) lookIntoBytes(v view, encodings int) {
	printable := 0
	for _, b := range v.bytes {
		if printable++; b < ' ' || b > '~' {
			printable = 0
		}
		if printable > fragment {
			s.look(v, encodings)
			return
		}
	}
	s.look(v, 0)
}

// scan marks the secrets that stand in the view as they are.
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

// fold makes spellings alike that differ in case, or in how a form spells a space.
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

// withoutSpace is the view without white space, control characters and what stands
// for characters that could not be read: text that was wrapped, or UTF-16 that was
// read byte by byte.
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

// An escape is a way to spell characters that begins with a certain one. read
// returns what the escape that text begins with stands for and how long it is, 0
// where there is none.
type escape struct {
	first byte
	read  func(text []byte) (meaning []byte, length int)
}

var escapes = []escape{{'%', percentEscape}, {'\\', backslashEscape}, {'&', entityEscape}}

// unescaped is the view with its escapes decoded.
func (v view) unescaped(e escape) view {
	decoded := newView(len(v.bytes))
	for i := 0; i < len(v.bytes); {
		var meaning []byte
		length := 0
		if v.bytes[i] == e.first {
			meaning, length = e.read(v.bytes[i:])
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

// percentEscape reads %41.
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

// backslashEscape reads \u0041, \x41, \n and \" as JSON, JavaScript and Go do.
func backslashEscape(text []byte) ([]byte, int) {
	if len(text) < 2 {
		return nil, 0
	}
	var pair string // UTF-16 spells one character by two escapes.
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

// entityEscape reads &#65; and &quot; of HTML and XML.
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

// digits are the values of characters, -1 for those that are no digits.
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

// regrouped makes bytes of the digits in the view, each of so many bits. Every run
// of digits begins offset digits later, since what stands before an encoded text
// may look like digits, too. White space does not end a run.
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
