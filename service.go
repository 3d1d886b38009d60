package main

import (
	"io"
	"log/slog"
	"os"
	"regexp"
)

// A program runs until it receives a signal, logs to stderr and returns its exit code.
type program func(signals <-chan os.Signal, stderr io.Writer) int

// eventLog is the part of the Windows event log that eventWriter uses.
type eventLog interface {
	Info(id uint32, message string) error
	Warning(id uint32, message string) error
	Error(id uint32, message string) error
}

// eventWriter writes each log line as an event of the type of its level. A line without
// a level is the error that ends the program.
type eventWriter struct{ log eventLog }

var levelPattern = regexp.MustCompile(`\blevel"?[=:]"?([A-Z]+)`)

func (w eventWriter) Write(p []byte) (int, error) {
	level := slog.LevelError
	if match := levelPattern.FindSubmatch(p); match != nil {
		_ = level.UnmarshalText(match[1]) // Keep error for an unknown level.
	}
	report := w.log.Error
	switch {
	case level < slog.LevelWarn:
		report = w.log.Info
	case level < slog.LevelError:
		report = w.log.Warning
	}
	return len(p), report(1, string(p))
}
