package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/exporter"
)

// progressLine shows progress in the last line of a terminal, below what is written to
// it. A nil progressLine does nothing.
type progressLine struct {
	mu   sync.Mutex
	out  io.Writer
	text string
}

// newProgressLine returns nil if out is not a terminal.
func newProgressLine(out io.Writer) *progressLine {
	f, ok := out.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return &progressLine{out: out}
}

const eraseLine = "\r\x1b[K"

// Write writes complete lines above the progress.
func (p *progressLine) Write(lines []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text == "" {
		return p.out.Write(lines)
	}
	fmt.Fprint(p.out, eraseLine)
	n, err := p.out.Write(lines)
	fmt.Fprint(p.out, p.text)
	return n, err
}

// show replaces the progress. An empty text removes it.
func (p *progressLine) show(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if text != p.text {
		p.text = text
		fmt.Fprint(p.out, eraseLine+text)
	}
}

// follow shows the progress of the refreshes until the context ends.
func (p *progressLine) follow(ctx context.Context, running *exporter.Exporter) {
	if p == nil {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.show(progressText(running.Progress()))
		case <-ctx.Done():
			p.show("")
			return
		}
	}
}

// progressText returns the progress, "" if all is done.
func progressText(p collector.Progress) string {
	if p.Done == p.Total {
		return ""
	}
	return fmt.Sprintf("%d of %d %s", p.Done, p.Total, p.What)
}
