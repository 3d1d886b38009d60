package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/mde-exporter/mde_exporter/collector"
)

func TestProgressIsShownOnlyOnATerminal(t *testing.T) {
	if newProgressLine(&bytes.Buffer{}) != nil {
		t.Error("a buffer is taken for a terminal")
	}
	f, err := os.Create(t.TempDir() + "/stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if newProgressLine(f) != nil {
		t.Error("a file is taken for a terminal")
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
		t.Errorf("written is %q, want %q", b.String(), want)
	}
}
