package web

import (
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
)

// bundle is the bundled files of one kind. Only what stands at the root of the
// file system and has the kind's ending is served.
type bundle struct {
	files       fs.FS
	names       []string
	contentType string
}

// newBundle lists the files; nil holds none.
func newBundle(files fs.FS, ending, contentType string) (*bundle, error) {
	b := &bundle{files: files, contentType: contentType}
	if files == nil {
		return b, nil
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("list the bundled files: %w", err)
	}
	for _, entry := range entries {
		if !entry.IsDir() && path.Ext(entry.Name()) == ending {
			b.names = append(b.names, entry.Name())
		}
	}
	return b, nil
}

// serve answers with the file that the {name} of the pattern names.
func (b *bundle) serve(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !slices.Contains(b.names, name) {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", b.contentType)
	http.ServeFileFS(w, r, b.files, name)
}
