package sandbox

import (
	"cmp"
	"encoding/base64"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
)

const (
	defaultPageSize = 25
	maxPageSize     = 100
)

// page fills the list and the next_page_token of an answer with what the
// request's page_size, 0 to maxPageSize, and page_token ask for; 0 is
// defaultPageSize. The list's name binds its tokens to it: those of another
// are INVALID_ARGUMENT. The last page has none.
func page[T any](p, q object, name string, all []T, show func(T) object) error {
	size := int(q.Get(q.field("page_size")).Int())
	if size < 0 || size > maxPageSize {
		return refused(code.Code_INVALID_ARGUMENT, "page_size %d is not between 0 and %d", size, maxPageSize)
	}
	offset, ok := readPageToken(name, q.text("page_token"))
	if !ok {
		return refused(code.Code_INVALID_ARGUMENT, "page_token is not one of this list's")
	}
	end := min(offset+cmp.Or(size, defaultPageSize), len(all))
	if end < len(all) {
		p.set("next_page_token", pageToken(name, end))
	}
	for _, element := range all[min(offset, end):end] {
		p.add("list", show(element))
	}
	return nil
}

// pageToken is opaque to clients.
func pageToken(list string, offset int) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(offset) + "@" + list))
}

// readPageToken is the reverse. It accepts only tokens of the same list.
func readPageToken(list, token string) (offset int, ok bool) {
	if token == "" {
		return 0, true
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, false
	}
	number, rest, _ := strings.Cut(string(text), "@")
	offset, err = strconv.Atoi(number)
	return offset, err == nil && offset > 0 && offset <= 1<<30 && rest == list
}
