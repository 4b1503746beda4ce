package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// headName is the file of the newest signed head.
const headName = "checkpoint"

// A head states the size and root of the tree at one moment. Signed, it is a
// checkpoint as of https://c2sp.org/tlog-checkpoint: a signed note of the
// origin, the size and the root.
type head struct {
	origin string
	size   uint64
	root   tlog.Hash
	// file is where it was read from, for errors. It is no part of what is signed.
	file string
}

// sign returns the checkpoint. The signer's name must be the origin.
func (h head) sign(signer note.Signer) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", h.origin, h.size, h.root)
	return note.Sign(&note.Note{Text: text}, signer)
}

// openHead reads a checkpoint. With a verifier it must carry its signature and
// its name; with nil it is taken as it is.
func openHead(checkpoint []byte, verifier note.Verifier) (head, error) {
	known := note.VerifierList()
	if verifier != nil {
		known = note.VerifierList(verifier)
	}
	n, err := note.Open(checkpoint, known)
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) && verifier == nil {
		n, err = unverified.Note, nil
	}
	if unverified != nil && err != nil {
		return head{}, fmt.Errorf("it is not signed by the key %s", verifier.Name())
	}
	if err != nil {
		return head{}, err
	}
	for _, signature := range n.Sigs {
		// package note passes over the bits that base64 leaves over.
		if _, err := base64.StdEncoding.Strict().DecodeString(signature.Base64); err != nil {
			return head{}, fmt.Errorf("its signature is not in canonical form: %w", err)
		}
	}
	h, err := parseHead(n.Text)
	if err == nil && verifier != nil && h.origin != verifier.Name() {
		err = fmt.Errorf("its origin is %q, the key's name %q", h.origin, verifier.Name())
	}
	return h, err
}

// parseHead reads the text of a checkpoint. Lines after the third are
// extensions, which the specification allows and we ignore.
func parseHead(text string) (head, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[0] == "" {
		return head{}, errors.New("not a checkpoint: it has no three lines")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return head{}, fmt.Errorf("not a checkpoint: its size is %q", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return head{}, fmt.Errorf("not a checkpoint: its root is %q", lines[2])
	}
	return head{origin: lines[0], size: size, root: tlog.Hash(root)}, nil
}

// readHead reads the checkpoint in dir. The error is fs.ErrNotExist if there
// is none, and a *CorruptError if there is something else.
func readHead(dir string, verifier note.Verifier) (head, error) {
	data, err := os.ReadFile(filepath.Join(dir, headName))
	if err != nil {
		return head{}, fmt.Errorf("read signed head: %w", err)
	}
	h, err := openHead(data, verifier)
	if err != nil {
		return head{}, &CorruptError{File: headName, AtOrAfter: true, Finding: FindingHead, Reason: err.Error()}
	}
	h.file = headName
	return h, nil
}
