package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"
)

// These tests compare what a jsonReader reads and accepts with jsontext, for reads of
// different sizes.

// parts are readers that return a text in parts of different sizes.
var parts = map[string]func(io.Reader) io.Reader{
	"at once":      func(r io.Reader) io.Reader { return r },
	"by halves":    iotest.HalfReader,
	"byte by byte": iotest.OneByteReader,
	"with its end": iotest.DataErrReader,
}

// acceptsText reads a value and the end of the text with a jsonReader.
func acceptsText(from io.Reader) (value string, err error) {
	var d decoder
	d.start(from)
	value = string(d.read())
	d.finish()
	return value, d.err
}

// acceptsRow returns the members of a row of a list, in the format of referenceRow.
func acceptsRow(from io.Reader) (members []string, err error) {
	var d decoder
	d.start(io.MultiReader(strings.NewReader("["), from, strings.NewReader("]")))
	for d.begin('['); d.more('['); {
		if d.peek() != '{' {
			d.mismatch(d.read(), "an object")
			continue
		}
		var row []string
		d.entity(func(object []byte) {
			row = nil
			for name, value := range d.members(object) {
				row = append(row, string(name), string(d.text(value)))
				for text := range d.list(value).All() {
					row = append(row, string(text))
				}
			}
		})
		members = append(members, row...)
	}
	d.finish()
	return members, d.err
}

var options = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// referenceText is acceptsText with jsontext. It also checks the limits.
func referenceText(text []byte, depth int) (value string, err error) {
	d := jsontext.NewDecoder(bytes.NewReader(text), options...)
	raw, err := d.ReadValue()
	if err != nil {
		return "null", err
	}
	value = string(raw)
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return value, errors.New("something follows")
	}
	if len(value) > maxEntity {
		return value, errors.New("too large")
	}
	elements := []int{math.MinInt}
	for d := jsontext.NewDecoder(strings.NewReader(value), options...); ; {
		before := d.InputOffset()
		kind := d.PeekKind()
		token, err := d.ReadToken()
		if err != nil {
			return value, nil //nolint:nilerr // It was read once: this is the end.
		}
		spelled := strings.TrimLeft(value[before:d.InputOffset()], " \t\r\n,:")
		last := len(elements) - 1
		switch kind {
		case '{', '[':
			if elements[last]++; len(elements)+depth > maxDepth {
				return value, errors.New("nested too deep")
			}
			elements = append(elements, map[jsontext.Kind]int{'[': 0, '{': math.MinInt}[kind])
		case '}', ']':
			elements = elements[:last]
		default:
			elements[last]++
			if k := token.Kind(); k == '"' && len(spelled) > maxToken+2 || k == '0' && len(spelled) > maxToken {
				return value, errors.New("too long")
			}
		}
		if slices.Max(elements) > maxElements {
			return value, errors.New("too many")
		}
	}
}

// referenceRow is acceptsRow with jsontext, for one object. It returns false if the text is
// not an object.
func referenceRow(text []byte) (members []string, isRow bool) {
	value, err := referenceText(text, 1)
	if err != nil || value == "" || value[0] != '{' {
		return nil, false
	}
	unquote := func(v jsontext.Value) string {
		switch v.Kind() {
		case '"':
			if bytes.IndexByte(v, '\\') < 0 {
				return string(v[1 : len(v)-1])
			}
			text, _ := jsontext.AppendUnquote(nil, v)
			return string(text)
		case '0':
			return string(v)
		default:
			return ""
		}
	}
	d := jsontext.NewDecoder(strings.NewReader(value), options...)
	_, _ = d.ReadToken()
	for d.PeekKind() != '}' {
		name, _ := d.ReadValue()
		members = append(members, unquote(name))
		member, _ := d.ReadValue()
		members = append(members, unquote(member))
		if member.Kind() == '[' {
			list := jsontext.NewDecoder(bytes.NewReader(slices.Clone(member)), options...)
			for _, _ = list.ReadToken(); list.PeekKind() != ']'; {
				element, _ := list.ReadValue()
				if text := unquote(element); text != "" {
					members = append(members, text)
				}
			}
		}
	}
	return members, true
}

func compareText(t *testing.T, text []byte) {
	t.Helper()
	want, refused := referenceText(text, 0)
	row, isRow := referenceRow(text)
	for name, in := range parts {
		got, err := acceptsText(in(bytes.NewReader(text)))
		if (err == nil) != (refused == nil) || err == nil && got != want {
			t.Errorf("%s, %.200q of %d bytes: %.200q, error %v, jsontext: %.200q, %v", name, text, len(text), got, err, want, refused)
		}
		members, err := acceptsRow(in(bytes.NewReader(text)))
		if isRow && (err != nil || !slices.Equal(members, row)) {
			t.Errorf("%s, row %.200q of %d bytes: %.200q, error %v, jsontext: %.200q", name, text, len(text), members, err, row)
		}
		// Several rows are more than one value.
		if !isRow && err == nil {
			if _, refused := referenceText([]byte("["+string(text)+"]"), 0); refused != nil {
				t.Errorf("%s, %.200q of %d bytes is accepted as rows, jsontext: %v", name, text, len(text), refused)
			}
		}
	}
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.5e+3,"b\u00e4\n\\\"",true,false,null,{}],"a":{"b":[[],[]]}}`, ` [ 1 , 2 ] `, `"\ud800"`, `"\ud83d\ude00\uDC00"`, `-`, `-0`, `01`, `-01`, `1.`, `.5`, `1.5e`, `1e+`, `1E-9`, `-1.5e+31`, `+1`, `0x1`, `NaN`,
		`[1,]`, `[,1]`, `{,}`, `{"a":1,}`, `{"a"}`, `{"a":}`, `{1:2}`, `{"a":1 "b":2}`, `{"a" : 1 , "b":2}`, `{"a",1}`, `{"a":1;}`, `[}`, `{]`, `[1 2]`, `[1,,2]`, `{"":""}`,
		`nul`, `nullx`, `truex`, `True`, `fals`, `"a`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\`, `"\"`, `"\\"`, `"\/\b\f\n\r\t"`, "\"\x01\"", "\"\x1f\"", "\"\x7f\"", "\"\xff\"", "\"\\n\xff\xc0\"", "\"12345678\x1f\"",
		`""`, ``, ` `, "\x00", "[\x00]", `1 2`, `{}x`, `{}{}`, `{},{}`, "\xef\xbb\xbf1", "\v1", "\u00a01", `"1234567\"8"`, `{"12345678":"12345678"}`, "[\"a\"\x00]", `'a'`, `/**/1`,
		`{"a":1,"b":2,"a":3}`, "{ \"a\" :\t1 ,\n\"b\" : 2\r}", `{"\u0061":["x","",null,1,["y"],{"z":1}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(compareText)
}

// Texts of all sizes around a limit, truncated at each offset.
func TestJSONReaderMatchesJsontext(t *testing.T) {
	nested := func(open, shut string, n int) string { return strings.Repeat(open, n) + "1" + strings.Repeat(shut, n) }
	texts := map[string]string{}
	for _, d := range []int{-1, 0, 1} {
		texts[fmt.Sprint("levels of arrays ", d)] = nested("[", "]", maxDepth+d)
		texts[fmt.Sprint("levels of objects ", d)] = nested(`{"a":`, "}", maxDepth+d)
		texts[fmt.Sprint("elements ", d)] = "[" + strings.Repeat("1,", maxElements-1+d) + "1]"
		texts[fmt.Sprint("members ", d)] = "{" + strings.Repeat(`"a":1,`, maxElements-1+d) + `"a":1}`
		texts[fmt.Sprint("elements of a row ", d)] = `{"a":[` + strings.Repeat(`"x",`, maxElements-1+d) + `"x"]}`
		texts[fmt.Sprint("string ", d)] = `"` + strings.Repeat("x", maxToken+d) + `"`
		texts[fmt.Sprint("string in a row ", d)] = `{"a":"` + strings.Repeat("x", maxToken+d) + `"}`
		texts[fmt.Sprint("name ", d)] = `{"` + strings.Repeat("x", maxToken+d) + `":1}`
		texts[fmt.Sprint("string of escapes ", d)] = `"` + strings.Repeat("x", maxToken-6+d) + `\u0000"`
		texts[fmt.Sprint("number ", d)] = strings.Repeat("1", maxToken+d)
		texts[fmt.Sprint("white space in a value ", d)] = "[" + strings.Repeat(" ", maxEntity-2+d) + "]"
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			want, refused := referenceText([]byte(text), 0)
			if got, err := acceptsText(iotest.HalfReader(strings.NewReader(text))); (err == nil) != (refused == nil) || err == nil && got != want {
				t.Errorf("%.50q of %d bytes, error %v, jsontext: %v", got, len(got), err, refused)
			}
			row, isRow := referenceRow([]byte(text))
			if got, err := acceptsRow(strings.NewReader(text)); isRow && (err != nil || !slices.Equal(got, row)) {
				t.Errorf("row %.50q, error %v, jsontext: %.50q", got, err, row)
			}
		})
	}
	t.Run("cut", func(t *testing.T) {
		const text = "{\"a\\u0061\" : \"b\\n\xff\\ud800\" , \"list\":[true,false,null,-12.50e+03,\"x\",{\"\":{}}],\"z\":0}"
		for n := range len(text) + 1 {
			compareText(t, []byte(text[:n]))
			for _, c := range "\x00 \"\\,:[]{}0-.eu\n" {
				compareText(t, []byte(text[:n]+string(c)+text[min(n+1, len(text)):]))
				compareText(t, []byte(text[:n]+string(c)+text[n:]))
			}
		}
	})
}

// TestRowsAreReadAcrossWindowBoundaries moves the end of the window through a row.
func TestRowsAreReadAcrossWindowBoundaries(t *testing.T) {
	const row = `{ "na\u006de" : "te\"x\u00e4t" ,"number":-12.5e3,"plain":"text","list":["a","\n"],"flag":true}`
	want, _ := referenceRow([]byte(row))
	for before := windowBytes - len(row) - 20; before < windowBytes+20; before++ {
		text := strings.Repeat(" ", before) + row + "," + row
		for _, in := range []func(io.Reader) io.Reader{parts["at once"], parts["by halves"]} {
			if got, err := acceptsRow(in(strings.NewReader(text))); err != nil || !slices.Equal(got, slices.Concat(want, want)) {
				t.Fatalf("with %d bytes before: %q, error %v", before, got, err)
			}
		}
	}
}

func TestJSONReaderReturnsSourceError(t *testing.T) {
	broken := errors.New("broken")
	for _, text := range []string{``, `{`, `{"a`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `[1`, `[1,`, `tr`, `"\u00`, `-`, `1.`} {
		if _, err := acceptsText(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("after %q: %v", text, err)
		}
		if _, err := acceptsText(strings.NewReader(text)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("at the end of %q: %v", text, err)
		}
	}
}

func TestInvalidCharacterErrorHasOffset(t *testing.T) {
	for _, before := range []int{0, 1000, windowBytes, 3*windowBytes + 7} {
		_, err := acceptsText(strings.NewReader(strings.Repeat(" ", before) + `{"a":x}`))
		if want := fmt.Sprintf("invalid character 'x' after offset %d", before+5); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
