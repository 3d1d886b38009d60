package config

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// phrase maps the beginning of a message of the YAML library to the exporter's message.
// The library's messages are not used, since some quote the file, which may contain
// secrets.
type phrase struct{ library, message string }

// syntaxMistakes are messages of the library's parser, which omits line 1.
var syntaxMistakes = []phrase{
	{"did not find expected key", "did not find expected key"},
	{"did not find expected '-' indicator", "did not find expected '-' of a list"},
	{"did not find expected ',' or", "did not find expected ',' or the closing bracket"},
	{"did not find expected node content", "did not find expected value"},
	{"could not find expected ':'", "could not find expected ':': a key needs a colon and a space before its value"},
	{"mapping values are not allowed", "a key where none is expected: check the indentation, and quote text that contains a colon and a space"},
	{"mapping keys are not allowed", "a key where none is expected: check the indentation"},
	{"block sequence entries are not allowed", "a list item where none is expected: check the indentation"},
	{"found a tab character", "a tab character where an indentation space is expected"},
	{"found character that cannot start any token", "text that begins with @, % or ` must be quoted"},
	{"found unknown escape character", "unknown escape sequence in double quotes: use single quotes"},
	{"found unexpected end of stream", "a quotation mark is not closed"},
	{"found unexpected document indicator", "a quotation mark is not closed before the next document"},
	{"did not find expected alphabetic or numeric character", "text that begins with * or & must be quoted"},
	{"found undefined tag handle", "text that begins with ! must be quoted"},
	{"exceeded max depth", "nested too deeply"},
}

// contentMistakes are messages from before or after parsing.
var contentMistakes = []phrase{
	{"document contains excessive aliasing", "aliases repeat too much of the file"},
	{"anchor '", "an anchor whose value contains itself"},
	{"unknown anchor '", "an alias without its anchor: text that begins with * must be quoted"},
	{"map merge requires", "<< needs the alias of a mapping, or a list of them"},
	{"cannot ", "not valid YAML: a value does not fit its type"},
}

var (
	yamlLine   = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)
	yamlAnchor = regexp.MustCompile(`(?s)^(unknown )?anchor '(.*)' (?:referenced|value contains itself)$`)
)

// yamlMistake translates a message of the YAML library into a line, 0 if unknown, and
// the exporter's message.
func yamlMistake(message string, data []byte) (line int, mistake string) {
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	message = strings.TrimPrefix(message, "yaml: ")
	if m := yamlAnchor.FindStringSubmatch(message); m != nil {
		sign := "&"
		if m[1] != "" {
			sign = "*"
		}
		line = lineOf(data, sign+m[2])
	}
	for _, phrase := range syntaxMistakes {
		if strings.HasPrefix(message, phrase.library) {
			return max(1, line), "not valid YAML: " + phrase.message
		}
	}
	for _, phrase := range contentMistakes {
		if strings.HasPrefix(message, phrase.library) {
			return line, phrase.message
		}
	}
	return line, "not valid YAML"
}

// lineOf returns the first line that contains the text, 0 if there is none.
func lineOf(data []byte, text string) int {
	before, _, found := bytes.Cut(data, []byte(text))
	if !found {
		return 0
	}
	return 1 + bytes.Count(before, []byte("\n"))
}

// notText returns the first line with invalid UTF-8 or with a control character that
// YAML does not allow. It returns 0 if there is none.
func notText(data []byte) int {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if !utf8.Valid(line) || bytes.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\n\r\u0085", r) }) {
			return number
		}
	}
	return 0
}
