package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/mde-exporter/mde_exporter/collector"
)

func TestProgressRequiresATerminal(t *testing.T) {
	if newProgressLine(&bytes.Buffer{}) != nil {
		t.Error("buffer taken as a terminal")
	}
	f, err := os.Create(t.TempDir() + "/stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if newProgressLine(f) != nil {
		t.Error("file taken as a terminal")
	}
}

func TestLogLinesAppearAboveTheProgress(t *testing.T) {
	var b bytes.Buffer
	p := &progressLine{out: &b}
	write := func(line string) {
		if n, err := p.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	write("first\n")
	p.show(progressText(collector.Progress{Done: 3, Total: 10, What: "watched domains looked up"}))
	write("second\n")
	p.show(progressText(collector.Progress{Done: 10, Total: 10, What: "watched domains looked up"}))
	write("third\n")
	const erase, progress = "\r\x1b[K", "3 of 10 watched domains looked up"
	if want := "first\n" + erase + progress + erase + "second\n" + progress + erase + "third\n"; b.String() != want {
		t.Errorf("wrote %q, want %q", b.String(), want)
	}
}
