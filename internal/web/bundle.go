package web

import (
	"fmt"
	"io/fs"
	"net/http"
	"path"
)

// serveBundle serves the bundled files with this extension under the prefix and
// returns their names. It serves only files at the root of the file system; a nil
// file system has none.
func serveBundle(mux *http.ServeMux, prefix string, files fs.FS, extension, contentType string) (names []string, err error) {
	if files == nil {
		return nil, nil
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("list the bundled files: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || path.Ext(name) != extension {
			continue
		}
		names = append(names, name)
		mux.HandleFunc("GET "+prefix+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			http.ServeFileFS(w, r, files, name)
		})
	}
	return names, nil
}
