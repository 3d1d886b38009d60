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

// progressLine is the last line of a terminal. What is written through it appears
// above the line. A nil progressLine shows nothing.
type progressLine struct {
	mu   sync.Mutex
	out  io.Writer
	text string
}

// newProgressLine returns nil where out is no terminal.
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

// Write implements io.Writer for whole lines.
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

// show replaces the line; an empty text removes it.
func (p *progressLine) show(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if text != p.text {
		p.text = text
		fmt.Fprint(p.out, eraseLine+text)
	}
}

// follow shows how far the refreshes are until the context ends, and then removes
// the line.
func (p *progressLine) follow(ctx context.Context, world *exporter.Exporter) {
	if p == nil {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.show(progressText(world.Progress()))
		case <-ctx.Done():
			p.show("")
			return
		}
	}
}

// progressText is empty where nothing is left to do.
func progressText(p collector.Progress) string {
	if p.Done == p.Total {
		return ""
	}
	return fmt.Sprintf("%d of %d %s", p.Done, p.Total, p.What)
}
