package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// readJSON skips one value and makes sure that nothing follows.
func readJSON(from io.Reader) error {
	var d decoder
	d.start(from)
	d.skip()
	d.end()
	return d.err
}

// FuzzJSONReader compares what is accepted with encoding/json, whatever part of it
// comes at once.
func FuzzJSONReader(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.5e+3,"b\u00e4\n\\\"",true,false,null,{}],"a":{"b":[[],[]]}}`, ` [ 1 , 2 ] `, `"\ud800"`, `-`, `01`, `1.`, `1e`, `[1,]`, `{,}`, `{"a":1,}`, `{"a"}`,
		`nul`, `truex`, `"a`, `"\x"`, `"\u12"`, "\"\x01\"", "\"\xff\"", `[}`, `{]`, `[1 2]`, `{"a":1 "b":2}`, `{"a" : 1 , "b":2}`, `""`, `{"":""}`, "\x00", "[\x00]", `1 2`, `{}x`,
		`"12345678` + "\x1f" + `"`, `"1234567\"8"`, `{"12345678":"12345678"}`, "[\"a\"\x00]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		want := json.Valid(text)
		for name, from := range map[string]io.Reader{
			"at once": bytes.NewReader(text), "byte by byte": iotest.OneByteReader(bytes.NewReader(text)), "with its end": iotest.DataErrReader(bytes.NewReader(text)),
		} {
			err := readJSON(from)
			if err != nil && (strings.Contains(err.Error(), "nested deeper") || strings.Contains(err.Error(), "elements")) {
				continue
			}
			if (err == nil) != want {
				t.Errorf("%s, %q: error %v, encoding/json says %v", name, text, err, want)
			}
		}
	})
}

// TestTextsAreReadWholeWhereverTheWindowEnds moves the end of the window through a
// row, byte by byte.
func TestTextsAreReadWholeWhereverTheWindowEnds(t *testing.T) {
	const row = `,"na\u006de" : "te\"x\u00e4t","number":-12.5e3,"plain":"text","list":["a","\n"],"flag":true}`
	for before := windowBytes - len(row) - 20; before < windowBytes+20; before++ {
		text := `{"long":"` + strings.Repeat("x", before) + `"` + row
		for _, from := range []io.Reader{strings.NewReader(text), iotest.HalfReader(strings.NewReader(text))} {
			var d decoder
			d.start(from)
			var got strings.Builder
			for d.object(); d.member(); {
				name := string(d.name)
				switch name {
				case "list":
					fmt.Fprintf(&got, "%s %q ", name, d.list(nil))
				case "long":
					d.skip()
				case "flag":
					fmt.Fprintf(&got, "%s %s ", name, d.flag())
				default:
					fmt.Fprintf(&got, "%s %s ", name, d.text())
				}
			}
			d.end()
			if want := `name te"xät number -12.5e3 plain text list ["a" "\n"] flag True `; got.String() != want || d.err != nil {
				t.Fatalf("with %d bytes before: %s, error %v", before, got.String(), d.err)
			}
		}
	}
}

func TestAnErrorOfTheSourceIsTheErrorOfTheReader(t *testing.T) {
	broken := errors.New("broken")
	for _, text := range []string{``, `{"a`, `{"a":`, `[1`, `[1,`, `tr`, `"\u00`} {
		if err := readJSON(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("after %q: %v", text, err)
		}
		if err := readJSON(strings.NewReader(text)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("at the end of %q: %v", text, err)
		}
	}
}
