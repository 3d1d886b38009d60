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

// plainText is the content type of what is for people: a browser displays it.
const plainText = "text/plain; charset=utf-8"

func healthy(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, "mde_exporter is healthy.")
}

// unreadyNamed is how many collectors /-/ready names at most.
const unreadyNamed = 20

// ready answers 503 with the collectors it waits for until each of them has
// something to show or has failed once.
func ready(o Options) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if o.Ready() {
			answer(w, http.StatusOK, "mde_exporter is ready.")
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
		lines := append([]string{"mde_exporter is not ready: waiting until every collector has something to show or has failed once."},
			waiting[:min(unreadyNamed, len(waiting))]...)
		if more := len(waiting) - unreadyNamed; more > 0 {
			lines = append(lines, fmt.Sprintf("and %d more", more))
		}
		answer(w, http.StatusServiceUnavailable, strings.Join(lines, "\n"))
	}
}

// reloadPatience is how long a request for a reload waits for its result. It
// leaves a server that answers within writeTimeout room for a slow link.
const reloadPatience = 30 * time.Second

// reload loads the configuration again. A mistake in it is the answer, for
// whoever asked is the one to fix it.
func reload(load func(context.Context) error) http.HandlerFunc {
	if load == nil {
		return func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusForbidden, "Lifecycle API is not enabled: start with --web.enable-lifecycle.")
		}
	}
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), reloadPatience)
		defer cancel()
		switch err := load(ctx); {
		case err == nil:
			answer(w, http.StatusOK, "The configuration was loaded.")
		case errors.Is(err, ctx.Err()):
			answer(w, http.StatusServiceUnavailable, "A reload is still under way, and its result not known yet: see the log, or ask again.")
		default:
			answer(w, http.StatusInternalServerError, "The configuration in force stays: "+err.Error())
		}
	}
}

// config shows the configuration in force.
func config(yaml func() []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, string(yaml())) }
}

// answer sends lines of plain text.
func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", plainText)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, strings.TrimSuffix(text, "\n")+"\n") // A client that left needs no answer.
}
