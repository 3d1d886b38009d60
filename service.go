package main

import (
	"io"
	"log/slog"
	"os"
	"regexp"
)

// A program runs until a signal asks it to stop, logs to stderr and returns its
// exit code.
type program func(signals <-chan os.Signal, stderr io.Writer) int

// eventLog is the part of the Windows event log that an eventWriter needs.
type eventLog interface {
	Info(id uint32, message string) error
	Warning(id uint32, message string) error
	Error(id uint32, message string) error
}

// eventWriter makes one event of each write. The level of a log line decides its
// type; whatever has no level is why the program ends, an error.
type eventWriter struct{ log eventLog }

var levelPattern = regexp.MustCompile(`\blevel"?[=:]"?([A-Z]+)`)

func (w eventWriter) Write(p []byte) (int, error) {
	level := slog.LevelError
	if match := levelPattern.FindSubmatch(p); match != nil {
		_ = level.UnmarshalText(match[1]) // An unknown level stays an error.
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
