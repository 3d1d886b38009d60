package web

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
)

// secured sets on every answer what keeps a browser from doing anything with a
// page but show it: no script, no resource, no frame, no form, and no style
// but the page's own, which is named by its hash.
func secured(next http.Handler, style string) http.Handler {
	sum := sha256.Sum256([]byte(style))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
