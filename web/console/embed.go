// Package console holds the console, a web page for people, as it was built by
// Vite, and serves it. The built files are committed: whoever builds the gateway
// needs no Node.
package console

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// built are the files that Vite has written.
//
//go:embed all:dist
var built embed.FS

// Root is the path that the console lies below. What the page itself asks for
// lies there too.
const Root = "/console/"

const (
	index       = "index.html"
	settings    = "config.json"
	descriptors = "descriptors.binpb"
)

const (
	// forever is for files whose names change with what is in them.
	forever = "public, max-age=31536000, immutable"
	// anew has a browser ask each time, which costs a line if nothing is new.
	anew = "no-cache"
)

// A Site is the files of the console, ready to be served. It is safe for
// concurrent use.
type Site struct{ files map[string]*file } // by the path below Root

// New returns the console's files. describe returns the descriptors that the page
// loads, a google.protobuf.FileDescriptorSet; it is called once, when they are
// first asked for.
func New(describe func() []byte) (*Site, error) {
	files, err := read(built)
	if err != nil {
		return nil, fmt.Errorf("read the embedded console: %w", err)
	}
	files[descriptors] = lazy(descriptors, anew, describe)
	return &Site{files: files}, nil
}

// read makes files of what was built.
func read(from fs.FS) (map[string]*file, error) {
	files := make(map[string]*file)
	err := fs.WalkDir(from, "dist", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		below := strings.TrimPrefix(name, "dist/")
		kept := anew
		if strings.HasPrefix(below, "assets/") { // Vite puts a hash into their names
			kept = forever
		}
		files[below] = newFile(below, kept, content)
		return nil
	})
	if err == nil && files[index] == nil {
		err = fmt.Errorf("it has no %s: build it with go run ./internal/dev web", index)
	}
	return files, err
}

// Owns tells whether a path is the console's, with a file or without.
func Owns(urlPath string) bool {
	return urlPath == strings.TrimSuffix(Root, "/") || strings.HasPrefix(urlPath, Root)
}

// ServeHTTP answers a request whose path Owns has, with what page says. It looks
// at no credential, reads no body, and sets no cookie. A path is matched as it is
// spelled: nothing is cleaned or decoded.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request, page *Page) {
	page.guard(w.Header(), r.TLS != nil)
	below := strings.TrimPrefix(r.URL.Path, Root)
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, r, http.StatusMethodNotAllowed, "The console's files are read with GET or HEAD.")
	case r.URL.RawPath != "":
		s.missing(w, r)
	case below == r.URL.Path || below == index:
		w.Header().Set("Location", Root)
		refuse(w, r, http.StatusTemporaryRedirect, "The console is at "+Root+".")
	case below == settings:
		page.settings.serve(w, r)
	case below == "":
		s.files[index].serve(w, r)
	case s.files[below] != nil:
		s.files[below].serve(w, r)
	default:
		s.missing(w, r)
	}
}

func (s *Site) missing(w http.ResponseWriter, r *http.Request) {
	refuse(w, r, http.StatusNotFound, "There is no such file. The console is at "+Root+".")
}

// refuse answers without a file.
func refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(text + "\n")) // a failed write means that the asker has gone
	}
}

// tag is the ETag of some content.
func tag(content []byte) string {
	sum := sha256.Sum256(content)
	return fmt.Sprintf(`"%x"`, sum[:12])
}

// types are the media types of files, by how their names end.
var types = map[string]string{
	".html":  "text/html; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".css":   "text/css; charset=utf-8",
	".svg":   "image/svg+xml",
	".png":   "image/png",
	".ico":   "image/x-icon",
	".woff2": "font/woff2",
	".json":  "application/json",
	".txt":   "text/plain; charset=utf-8",
	".binpb": "application/x-protobuf",
}

// typeOf is the media type of a file. One that is not known is bytes, which a
// browser neither runs nor shows.
func typeOf(name string) string {
	if known := types[path.Ext(name)]; known != "" {
		return known
	}
	return "application/octet-stream"
}
