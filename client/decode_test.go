package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// readMembers reads a page of rows through one decoder, a part at a time, and returns
// the name and value of each member of each row.
func readMembers(rows ...string) (got [][][2]string, err error) {
	body := iotest.HalfReader(strings.NewReader(`{"value":[` + strings.Join(rows, ",") + `]}`))
	p := &pageCall{cancel: func() {}, done: make(chan struct{}), response: &apiResponse{body: body, finished: func(error) {}}}
	close(p.done)
	ch := chain{list: list{api: Machines, bounds: listBounds}, contents: make(map[pageContent]bool)}
	var members [][2]string
	_, err = ch.readPage(context.Background(), p, func(d *decoder, row []byte) {
		members = [][2]string{}
		for name, value := range d.members(row) {
			members = append(members, [2]string{string(name), string(value)})
		}
	}, func() bool {
		got = append(got, members)
		return true
	})
	return got, err
}

func TestMembersAreReadRegardlessOfPreviousRow(t *testing.T) {
	many := func(names ...string) string { return `{"` + strings.Join(names, `":1,"`) + `":1}` }
	hundred := make([]string, 100)
	for i := range hundred {
		hundred[i] = fmt.Sprint("name", i)
	}
	long := strings.Repeat("n", 100)
	for name, rows := range map[string][]string{
		"the same order":              {`{"a":1,"b":2}`, `{"a":3,"b":4}`},
		"another order":               {`{"a":1,"b":2}`, `{"b":3,"a":4}`, `{"a":5,"b":6}`},
		"fewer and more members":      {`{"a":1,"b":2,"c":3}`, `{"a":4}`, `{}`, `{"a":5,"b":6,"c":7,"d":8}`},
		"a member twice":              {`{"a":1,"a":2}`, `{"a":3}`, `{"a":4,"a":5}`},
		"white space behind a name":   {`{"a":1}`, `{"a" : 1}`, "{\"a\":\t1}", `{"a":1}`},
		"white space before a name":   {`{"a":1,"b":2}`, `{"a":1, "b":2 }`, "{ \"a\":1\n,\r\n\"b\":2}", `{"a":1,"b":2}`},
		"white space in the first":    {"{ \"a\" :\t1 ,\n\"b\" : 2 }", `{"a":1,"b":2}`},
		"names with escapes":          {`{"\u0061":1,"b":2}`, `{"a":3,"\u0062":4}`, `{"\u0061":5,"b":6}`, `{"\"":7}`, `{"\"":8}`},
		"a name that begins another":  {`{"a":1,"b":2}`, `{"ab":1,"bc":2}`, `{"":3}`, `{"a":4}`},
		"a text that looks like more": {`{"a":"x","b":"y"}`, `{"a":"x\",\"b\":\"y","b":"\\"}`, `{"a":",\"b\":","b":"}"}`},
		"values of every kind":        {`{"a":null,"b":true,"c":[{"a":"]"}],"d":{"a":{"}":1}},"e":-1.5e+3,"f":""}`, `{"a":[],"b":{},"c":"\\\\","d":"\\\"","e":false,"f":0}`},
		"more members than guesses":   {many(hundred...), many(hundred[1:]...), many(hundred...)},
		"a long name":                 {many(long, "b"), many(long+"n", "b"), many(long, "b")},
	} {
		t.Run(name, func(t *testing.T) { compareMembers(t, rows...) })
	}
}

// compareMembers compares the members of rows that are objects with what encoding/json
// reads of them.
func compareMembers(t *testing.T, rows ...string) {
	t.Helper()
	got, err := readMembers(rows...)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		want := [][2]string{}
		plain := json.NewDecoder(strings.NewReader(row))
		for _, _ = plain.Token(); plain.More(); {
			name, err := plain.Token()
			var value json.RawMessage
			if err == nil {
				err = plain.Decode(&value)
			}
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, [2]string{name.(string), string(value)})
		}
		if fmt.Sprintf("%q", got[i]) != fmt.Sprintf("%q", want) {
			t.Errorf("row %d of %.300q: members %.300q, want %.300q", i, rows, got[i], want)
		}
	}
}

func FuzzMembers(f *testing.F) {
	f.Add(`{"a":1,"b":"x","c":[1,{"d":null}]}`, `{"a" : 1 ,"c":"\"","\u0062":{"a":"}"}}`)
	f.Add(`{}`, "{\n\"a\":\"\\\\\",\"a\":true}")
	f.Fuzz(func(t *testing.T, first, second string) {
		for _, row := range []string{first, second} {
			if !utf8.ValidString(row) || !json.Valid([]byte(row)) || len(row) > maxElements || strings.Count(row, "[")+strings.Count(row, "{") >= maxDepth-2 || !strings.HasPrefix(row, "{") || !strings.HasSuffix(row, "}") {
				t.Skip()
			}
		}
		compareMembers(t, first, second, first)
	})
}

// An entity is in memory as a whole, so its size is limited, including ignored members and
// its unescaped texts.
func TestEntitySizeIsLimited(t *testing.T) {
	text := `"` + strings.Repeat("x", 1<<20-100) + `"`
	within, beyond := `{"a":[`+strings.Repeat(text+`,`, 15)+`0]}`, `{"a":[`+strings.Repeat(text+`,`, 17)+`0]}`
	for row, want := range map[string]string{
		within: "",
		beyond: "one entity is larger than",
		`{"a":` + strings.Repeat(" ", maxEntity) + `1}`: "one entity is larger than",
	} {
		if _, err := readMembers(row); err == nil != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q of %d bytes: error %v, want %q", row, len(row), err, want)
		}
	}
	// Each invalid byte takes three bytes in an unescaped text.
	d := decoder{jsonReader: jsonReader{escapes: true}}
	value := append(append([]byte(`"\n`), bytes.Repeat([]byte{0xff}, 1<<20-10)...), '"')
	for n := 0; n < 10 && d.err == nil; n++ {
		d.text(value)
	}
	if d.err == nil || len(d.texts) > maxEntity+4<<20 {
		t.Errorf("texts of %d bytes, error %v", len(d.texts), d.err)
	}
	d = decoder{jsonReader: jsonReader{escapes: true}}
	value = append(append([]byte(`"\n`), bytes.Repeat([]byte{'x'}, 1<<20-1)...), '"')
	for range 16 {
		d.text(value)
	}
	if len(d.texts) != 16<<20 || d.err != nil {
		t.Errorf("texts of %d bytes, error %v", len(d.texts), d.err)
	}
}

func TestNestingAndElementsAreLimitedEverywhere(t *testing.T) {
	nested := func(levels int) string { return strings.Repeat(`[`, levels) + strings.Repeat(`]`, levels) }
	for row, want := range map[string]string{
		// The page, its list and the row are three levels.
		`{"a":` + nested(maxDepth-3) + `}`:                                                     "",
		`{"a":` + nested(maxDepth-2) + `}`:                                                     "nested deeper",
		`{"a":{"b":` + nested(maxDepth-3) + `}}`:                                               "nested deeper",
		`{"error":{"code":"x"},"a":` + nested(maxDepth-3) + `}`:                                "",
		`{"a":[` + strings.Repeat("1,", maxElements-1) + `1]}`:                                 "",
		`{"a":[` + strings.Repeat("1,", maxElements) + `1]}`:                                   "more than 10000 elements",
		`{"a":[[` + strings.Repeat("{},", maxElements) + `1]]}`:                                "more than 10000 elements",
		`{"a":{"b":0` + strings.Repeat(`,"b":[]`, maxElements+1) + `}}`:                        "", // Only lists are bounded.
		`{"a":[{"b":[` + strings.Repeat("0,", maxElements-1) + `0]},` + nested(3) + `,1,"x"]}`: "",
	} {
		if _, err := readMembers(row); err == nil != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q of %d bytes: error %v, want %q", row, len(row), err, want)
		}
	}
}

// A text of 40 bytes that are not all hexadecimal digits is hashed.
func TestMachineIDIsDecodedOrHashed(t *testing.T) {
	for place := range 40 {
		for c := range 256 {
			text := []byte("000050e1b4afEee3742489ede9Ad7a3e16bbd9c4")
			text[place] = byte(c)
			want, got := MachineID{}, MachineID{1}
			if _, err := hex.Decode(want[:], text); err != nil {
				sum := sha256.Sum256(bytes.ToLower(text))
				want = MachineID(sum[:len(want)])
			}
			if got.parse(text); got != want {
				t.Fatalf("%q: %x, want %x", text, got, want)
			}
		}
	}
}
