package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// plainText is the content type of text that a browser displays.
const plainText = "text/plain; charset=utf-8"

func healthy(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "mde_exporter is healthy.")
}

// maxUnreadyNames is how many collectors /-/ready names at most.
const maxUnreadyNames = 20

// ready responds with 503 and the waiting collectors until every collector has
// values or has failed once.
func ready(o Options) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if o.Ready() {
			writeText(w, http.StatusOK, "mde_exporter is ready.")
			return
		}
		var waiting []string
		for _, t := range o.Status().Tenants {
			for _, c := range t.Collectors {
				if c.Enabled && !c.Ready {
					waiting = append(waiting, t.Name+"/"+c.Name)
				}
			}
		}
		lines := append([]string{"mde_exporter is not ready: waiting until every collector has values or has failed once."},
			waiting[:min(maxUnreadyNames, len(waiting))]...)
		if more := len(waiting) - maxUnreadyNames; more > 0 {
			lines = append(lines, fmt.Sprintf("and %d more", more))
		}
		writeText(w, http.StatusServiceUnavailable, strings.Join(lines, "\n"))
	}
}

// reloadTimeout is how long a reload request waits for the result. It is shorter
// than writeTimeout, to leave time for a slow connection.
const reloadTimeout = 30 * time.Second

// reload loads the configuration again. It returns mistakes in the response, so
// that the caller can fix them.
func reload(load func(context.Context) error) http.HandlerFunc {
	if load == nil {
		return func(w http.ResponseWriter, _ *http.Request) {
			writeText(w, http.StatusForbidden, "Lifecycle API is not enabled: start with --web.enable-lifecycle.")
		}
	}
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), reloadTimeout)
		defer cancel()
		switch err := load(ctx); {
		case err == nil:
			writeText(w, http.StatusOK, "The configuration was loaded.")
		case errors.Is(err, ctx.Err()):
			writeText(w, http.StatusServiceUnavailable, "The reload is still running: see the log for its result, or try again.")
		default:
			writeText(w, http.StatusInternalServerError, "Reload failed, keeping the configuration in force: "+err.Error())
		}
	}
}

// config serves the configuration in force.
func config(yaml func() []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, string(yaml())) }
}

// writeText responds with plain text.
func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", plainText)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, strings.TrimSuffix(text, "\n")+"\n") // The client may have disconnected.
}
