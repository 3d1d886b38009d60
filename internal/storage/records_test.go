package storage

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzJournal reads arbitrary bytes as a journal. Every record found must be byte
// for byte what formatRecord returns, at the reported position. A record appended
// to them must be found, too.
func FuzzJournal(f *testing.F) {
	file := recordFile{header: "mde_exporter values 1 \"contoso\"\n"}
	journal := []byte(file.header)
	for _, key := range []string{"states", "domain/a", "two\nlines", "\xff", "states"} {
		journal = append(journal, file.formatRecord(key, []byte(`{"machines":4711}`))...)
	}
	journal = append(journal, file.formatRecord("domain/a", nil)...)
	f.Add(journal)
	f.Add(journal[:len(journal)-7])
	f.Add(bytes.ReplaceAll(journal, []byte("\n"), []byte("\r\n")))
	f.Add([]byte(file.header))
	f.Add([]byte(strings.Replace(file.header, "contoso", "fabrikam", 1)))
	f.Add([]byte("mde_exporter values 99999999999999999999 \"contoso\"\n"))
	f.Add([]byte{})
	path := filepath.Join(f.TempDir(), "journal")
	f.Fuzz(func(t *testing.T, data []byte) {
		read := contents{records: make(map[string]span)}
		found, err := file.scan(bytes.NewReader(data), read.set)
		if err != nil {
			t.Fatal(err)
		}
		if found.size != int64(len(data)) {
			t.Errorf("size %d of %d bytes", found.size, len(data))
		}
		if named := bytes.HasPrefix(data, []byte(file.header)) || len(data) == 0; (found.first == nil) != named {
			t.Errorf("first line %q, want none: %v", found.first, named)
		}
		var live int64
		for key, at := range read.records {
			live += at.length
			line := data[at.offset : at.offset+at.length]
			got, value, ok := file.parseRecord(line)
			if !ok || got != key || !bytes.Equal(file.formatRecord(key, value), line) {
				t.Errorf("key %q is at %q", key, line)
			}
		}
		if live != read.live {
			t.Errorf("live = %d, want %d", read.live, live)
		}

		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		appended, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer appended.Close()
		at, err := file.append(appended, int64(len(data)), file.formatRecord("new", []byte("1")))
		if err != nil {
			t.Fatal(err)
		}
		reread := contents{records: make(map[string]span)}
		if _, err := file.scan(appended, reread.set); err != nil || reread.records["new"] != at {
			t.Errorf("the appended record is at %v, want %v; %v", reread.records["new"], at, err)
		}
		delete(read.records, "new")
		if len(reread.records) != len(read.records)+1 {
			t.Errorf("%d records after appending to %d", len(reread.records), len(read.records))
		}
	})
}
