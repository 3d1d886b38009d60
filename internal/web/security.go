package web

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// secured sets on every answer what keeps a browser from doing anything with a
// page but show it: no script, no resource, no frame, no form to
// elsewhere, and no style but the page's own, which is named by its hash.
func secured(next http.Handler) http.Handler {
	sum := sha256.Sum256([]byte(pageCSS))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// sameSiteOnly answers 403 to requests that a browser marks as coming from
// another site, whatever their method: those with a Sec-Fetch-Site other than
// same-origin and none, and those whose Origin is not the Host that they ask.
// Requests without either header, such as those of curl, are served.
// http.CrossOriginProtection does not do: it serves every GET.
//
// DNS rebinding is not recognized. A page whose own host name was made to
// resolve to the exporter sends same-origin requests, and every Host is served,
// since the exporter does not know its names. Such a page reads whatever an
// unauthenticated client of the browser's network can read, and may reload.
// Against it helps --web.config.file: basic authentication, client
// certificates, or TLS, whose certificate the browser refuses for that name.
func sameSiteOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if fromAnotherSite(r) {
			answer(w, http.StatusForbidden, "Cross-site request refused: open this address directly.")
			return
		}
		next(w, r)
	}
}

func fromAnotherSite(r *http.Request) bool {
	return slices.ContainsFunc(r.Header.Values("Sec-Fetch-Site"), func(site string) bool {
		return site != "same-origin" && site != "none"
	}) || slices.ContainsFunc(r.Header.Values("Origin"), func(origin string) bool {
		u, err := url.Parse(origin)
		return err != nil || !strings.EqualFold(u.Host, r.Host)
	})
}
