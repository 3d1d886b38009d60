package storage

import (
	"bytes"
	"testing"
)

// FuzzJournal reads any bytes as a journal. It finds nothing but records that
// are byte for byte what the program would write, each where it says.
func FuzzJournal(f *testing.F) {
	journal := []byte(journalHeader("contoso"))
	for _, key := range []string{"states", "domain/a", "two\nlines", "\xff", "states"} {
		journal = append(journal, formatRecord(key, []byte(`{"machines":4711}`))...)
	}
	journal = append(journal, formatRecord("domain/a", nil)...)
	f.Add(journal)
	f.Add(journal[:len(journal)-7])
	f.Add(bytes.ReplaceAll(journal, []byte("\n"), []byte("\r\n")))
	f.Add([]byte(journalHeader("contoso")))
	f.Add([]byte(journalHeader("fabrikam")))
	f.Add([]byte("mde_exporter values 99999999999999999999 \"contoso\"\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := scan(bytes.NewReader(data), "contoso")
		if err != nil {
			return
		}
		if found.size != int64(len(data)) {
			t.Errorf("size %d of %d bytes", found.size, len(data))
		}
		if want := len(data) > 0 && data[len(data)-1] != '\n'; found.torn != want {
			t.Errorf("torn = %v, want %v", found.torn, want)
		}
		var live int64
		for key, at := range found.records {
			live += at.length
			line := data[at.offset : at.offset+at.length]
			got, value, ok := parseRecord(line)
			if !ok || got != key || !bytes.Equal(formatRecord(key, value), line) {
				t.Errorf("key %q is at %q", key, line)
			}
		}
		if live != found.live {
			t.Errorf("live = %d, want %d", found.live, live)
		}
	})
}
