package web

import (
	"fmt"
	"io/fs"
	"net/http"
	"path"
)

// serveBundle serves the files of one kind below the prefix, and returns their
// names: those at the root of the file system, nil of which holds none, that have
// the kind's ending.
func serveBundle(mux *http.ServeMux, prefix string, files fs.FS, ending, contentType string) (names []string, err error) {
	if files == nil {
		return nil, nil
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("list the bundled files: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || path.Ext(name) != ending {
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
