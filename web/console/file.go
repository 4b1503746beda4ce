package console

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// minCompress is the smallest file, in bytes, that is worth compressing.
const minCompress = 1 << 10

// A file is what stands at one path.
type file struct {
	mediaType, kept string
	// content is the file, and packed the same compressed; nil if that is no use.
	content, packed func() body
}

// A body is a file's bytes in one encoding.
type body struct {
	bytes []byte
	tag   string
}

func newFile(name, kept string, content []byte) *file {
	return lazy(name, kept, func() []byte { return content })
}

// lazy returns a file that is made when it is first asked for, once.
func lazy(name, kept string, content func() []byte) *file {
	f := &file{mediaType: typeOf(name), kept: kept}
	f.content = sync.OnceValue(func() body {
		made := content()
		return body{made, tag(made)}
	})
	f.packed = sync.OnceValue(func() body {
		whole := f.content().bytes
		if len(whole) < minCompress {
			return body{}
		}
		packed := compress(whole)
		if len(packed) >= len(whole) {
			return body{}
		}
		return body{packed, tag(packed)}
	})
	return f
}

// compress is the same at each start: the header has no name and no time.
func compress(content []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		panic("console: " + err.Error()) // there is no such level
	}
	_, _ = w.Write(content) // a bytes.Buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// serve answers GET and HEAD. Ranges are not served: no file is long.
func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.mediaType)
	header.Set("Cache-Control", f.kept)
	header.Add("Vary", "Accept-Encoding")
	sent := f.content()
	if takesGzip(r.Header["Accept-Encoding"]) {
		if packed := f.packed(); packed.bytes != nil {
			sent = packed
			header.Set("Content-Encoding", "gzip")
		}
	}
	header.Set("ETag", sent.tag)
	if matches(r.Header["If-None-Match"], sent.tag) {
		header.Del("Content-Encoding")
		header.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Length", strconv.Itoa(len(sent.bytes)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(sent.bytes) // a failed write means that the asker has gone
	}
}

// takesGzip reads Accept-Encoding (RFC 9110, section 12.5.3).
func takesGzip(values []string) bool {
	star := false
	for coding := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		_, number, weighed := strings.Cut(strings.ToLower(weight), "q=")
		q, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		taken := !weighed || err == nil && q > 0
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "x-gzip":
			return taken
		case "*":
			star = taken
		}
	}
	return star
}

// matches reads If-None-Match (RFC 9110, section 13.1.2), which compares weakly.
func matches(values []string, tag string) bool {
	for one := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}
