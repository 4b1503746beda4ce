package config

import "bytes"

// A Watch finds out whether a file has changed, by its content: whether it was
// written, replaced, or a link to it was set anew, as Kubernetes does with a
// ConfigMap, makes no difference. It belongs to one goroutine.
type Watch struct {
	file string
	// used is what Look has last returned, seen what it last found.
	used, seen content
}

// content is what a file holds, or why it cannot be read.
type content struct {
	data []byte
	err  string
}

func (c content) equals(other content) bool {
	return c.err == other.err && bytes.Equal(c.data, other.data)
}

// NewWatch returns a Watch of a file whose content is known.
func NewWatch(file string, known []byte) *Watch {
	w := &Watch{file: file}
	w.used.data, w.seen.data = known, known
	return w
}

// Look returns the file's content if it is another one than when Look or Load
// last returned it, and was the same at the last Look too: what is being written
// is not taken for whole. A file that cannot be read is an error, once.
func (w *Watch) Look() (data []byte, changed bool, err error) {
	found, err := w.find()
	settled := found.equals(w.seen)
	w.seen = found
	if !settled || found.equals(w.used) {
		return nil, false, nil
	}
	w.used = found
	return found.data, true, err
}

// Load returns the file's content as it is.
func (w *Watch) Load() ([]byte, error) {
	found, err := w.find()
	w.used, w.seen = found, found
	return found.data, err
}

func (w *Watch) find() (content, error) {
	data, err := Load(w.file)
	if err != nil {
		return content{err: err.Error()}, err
	}
	return content{data: data}, nil
}
