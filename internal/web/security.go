package web

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// secured sets headers on every response that restrict what a browser may do with
// a page: no scripts, no external resources, no frames, no forms to other sites,
// and only the embedded style, allowed by its hash.
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

// sameSiteOnly responds with 403 to requests from another site, for every method.
// These have a Sec-Fetch-Site other than same-origin and none, or an Origin that
// is not the request's Host. It serves requests without these headers, such as
// those of curl. http.CrossOriginProtection is insufficient: it allows every GET.
//
// It does not detect DNS rebinding. A page whose own host name was made to
// resolve to the exporter sends same-origin requests, and every Host is served,
// since the exporter does not know its host names. Such a page can read what any
// unauthenticated client in the browser's network can read, and can reload.
// --web.config.file protects against it: with basic authentication, client
// certificates, or TLS, whose certificate the browser rejects for that name.
func sameSiteOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if fromAnotherSite(r) {
			writeText(w, http.StatusForbidden, "Cross-site request rejected: open this address directly.")
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
