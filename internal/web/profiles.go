package web

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"time"
)

// profiles are the endpoints under /debug/pprof/, for go tool pprof and go tool
// trace. net/http/pprof has two more things, differences between two profiles and
// symbols, which profiles bring along; for them it needs a fortieth of the whole
// program, and it registers itself on http.DefaultServeMux.
func profiles() []endpoint {
	return []endpoint{
		{reading, "/debug/pprof/{$}", listProfiles},
		{reading, "/debug/pprof/cmdline", commandLine},
		{reading, "/debug/pprof/profile", record("profile", 30, pprof.StartCPUProfile, pprof.StopCPUProfile)},
		{reading, "/debug/pprof/trace", record("trace", 1, trace.Start, trace.Stop)},
		{reading, "/debug/pprof/{name}", snapshot},
	}
}

func listProfiles(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", plainText)
	for _, p := range pprof.Profiles() {
		fmt.Fprintf(w, "%s\t%d\n", p.Name(), p.Count())
	}
	_, _ = io.WriteString(w, "profile\t?seconds=30\ntrace\t?seconds=1\n") // The client may have gone.
}

// commandLine has no secrets: no flag takes one.
func commandLine(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", plainText)
	_, _ = io.WriteString(w, strings.Join(os.Args, "\x00")) //nolint:gosec // It is plain text.
}

// snapshot answers with one of the runtime's profiles, as text with ?debug=1, and
// after a collection of garbage with ?gc=1.
func snapshot(w http.ResponseWriter, r *http.Request) {
	p := pprof.Lookup(r.PathValue("name"))
	if p == nil {
		http.Error(w, "no such profile", http.StatusNotFound)
		return
	}
	debug, _ := strconv.Atoi(r.FormValue("debug"))
	if r.FormValue("gc") != "" {
		runtime.GC()
	}
	if debug > 0 {
		w.Header().Set("Content-Type", plainText)
	} else {
		attach(w, p.Name())
	}
	_ = p.WriteTo(w, debug) // The client may have gone.
}

// longestRecording bounds ?seconds=.
const longestRecording = 10 * 60

// record answers with what is recorded during the next seconds.
func record(name string, usual int, start func(io.Writer) error, stop func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seconds := usual
		if text := r.FormValue("seconds"); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > longestRecording {
				http.Error(w, fmt.Sprintf("seconds is not a whole number from 1 to %d", longestRecording), http.StatusBadRequest)
				return
			}
			seconds = n
		}
		duration := time.Duration(seconds) * time.Second
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(duration + writeTimeout)) // A recorder in a test has none.
		attach(w, name)
		if err := start(w); err != nil {
			w.Header().Del("Content-Disposition")
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		defer stop()
		select {
		case <-time.After(duration):
		case <-r.Context().Done():
		}
	}
}

func attach(w http.ResponseWriter, name string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
}
