package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// load goes from bytes to the node of the one document's root, or reports why
// there is none and returns nil.
func (r *report) load(data []byte) *yaml.Node {
	if at, what := checkText(data); what != "" {
		r.addAt(at, "", "", "%s", what)
		return nil
	}
	root, second, err := parseYAML(data)
	switch {
	case err != nil:
		at, what := explain(data, err)
		r.addAt(at, "", "", "%s", what)
		return nil
	case root == nil || root.Tag == "!!null":
		r.add("", "the file holds no configuration: see the README for one to start from")
		return nil
	case second != nil:
		r.addAt(markOf(second), "", "", `a second document begins here: a file holds one configuration, without "---" inside`)
		return nil
	}
	r.at[""] = markOf(root)
	return root
}

// checkText finds what makes a file something else than text for people: its
// size, encoding, and characters that nobody sees.
func checkText(data []byte) (at mark, what string) {
	at = mark{1, 1}
	switch {
	case len(data) > maxSize:
		return at, fmt.Sprintf("the file is larger than %d MiB", maxSize>>20)
	case bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")):
		return at, "the file is UTF-16: save it as UTF-8"
	case bytes.HasPrefix(data, []byte("\ufeff")):
		return at, "the file begins with a byte order mark: save it as UTF-8 without BOM"
	}
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		switch {
		case c == utf8.RuneError && size == 1:
			return at, "this is not UTF-8: save the file as UTF-8"
		case c == '\r' && bytes.HasPrefix(data[i:], []byte("\r\n")):
		case c == '\r':
			return at, `this line ends with CR alone: save the file with LF line ends`
		case invisible(c):
			return at, fmt.Sprintf("invisible character U+%04X: remove it", c)
		}
		i += size
		if at.column++; c == '\n' {
			at = mark{at.line + 1, 1}
		}
	}
	return at, ""
}

// invisible tells whether a character has no place in a configuration:
// controls, YAML's other line breaks, which editors do not count as such, and
// those that let text read otherwise than it stands (CVE-2021-42574).
func invisible(c rune) bool {
	switch {
	case c == '\n' || c == '\t':
		return false
	case c < 0x20 || 0x7f <= c && c < 0xa0:
		return true
	case 0x2028 <= c && c <= 0x202e || 0x2066 <= c && c <= 0x2069:
		return true
	}
	return c == 0xfeff || c == 0xfffe || c == 0xffff
}

// parseYAML returns the root of the first document (nil if the file is empty),
// and the node of a second one if there is any.
func parseYAML(data []byte) (root, second *yaml.Node, err error) {
	// The library's parser panics on states that it holds impossible; a running
	// c1proxy must not end because of a file that it is asked to reload.
	defer func() {
		if recover() != nil {
			err = errors.New("yaml: the parser failed")
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if root, err = next(decoder); root == nil || err != nil {
		return nil, nil, err
	}
	second, err = next(decoder)
	return root.Content[0], second, err
}

// next reads the next document; it is nil at the end of the file.
func next(decoder *yaml.Decoder) (*yaml.Node, error) {
	document := new(yaml.Node)
	err := decoder.Decode(document)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	return document, err
}

// yamlError has the line and the text of an error of the library.
var yamlError = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)

// What the library says of a file that ends in a quoted text, and of a tab in
// the indentation, at the line where the text before it begins.
const (
	unclosedQuotes = "found unexpected end of stream"
	badTab         = "found a tab character that violates indentation"
)

// explanations says in plain words what the library means. What is not here is
// not shown: it can hold a part of the file, and that can be a secret.
var explanations = map[string]string{
	"could not find expected ':'":                                  `expected "key: value": a colon, or the space after it, is missing`,
	"did not find expected ',' or ']'":                             `the list is not closed: a "," or "]" is missing`,
	"did not find expected ',' or '}'":                             `the mapping is not closed: a "," or "}" is missing`,
	"did not find expected '-' indicator":                          `expected another list item ("- ") in this column: check the indentation`,
	"did not find expected node content":                           "a value is missing here: check the commas and brackets before this",
	"did not find expected key":                                    "expected a key in this column: check the indentation, and the quotes before this",
	"exceeded max depth of 10000":                                  "the file is nested too deeply",
	"found a tab character where an indentation space is expected": "a tab in the indentation: use spaces",
	"found unexpected document indicator":                          "the quotes opened here are not closed",
	"found character that cannot start any token":                  "a value cannot begin like this: put it in quotes",
	unclosedQuotes:                                           "the quotes opened here are not closed",
	"found unknown escape character":                         `unknown escape after "\": use single quotes, in which it has no meaning`,
	"mapping values are not allowed in this context":         `no key can stand here: check the indentation, or put a text that holds ": " in quotes`,
	"block sequence entries are not allowed in this context": `no list item can stand here: begin the list on a line of its own`,
}

// explain turns an error of the library into a place, the first character of a
// line, and words that hold nothing of the file. When its parser fails, the
// library names the line at which the surrounding mapping or list begins; the
// true one is the last line of the shortest beginning of the file that fails in
// the same way.
func explain(data []byte, err error) (mark, string) {
	parts := yamlError.FindStringSubmatch(err.Error())
	if parts == nil {
		return mark{1, 1}, "this is not YAML"
	}
	line, _ := strconv.Atoi(parts[1])
	lines := bytes.SplitAfter(data, []byte("\n"))
	if line == 0 || strings.HasPrefix(parts[2], "did not find expected") {
		ends := len(lines)
		line = 1 + sort.Search(ends-1, func(i int) bool {
			_, _, short := parseYAML(bytes.Join(lines[:i+1], nil))
			return short != nil && short.Error() == err.Error()
		})
		if opened := openQuotes(lines[:line-1]); opened > 0 {
			line, parts[2] = opened, unclosedQuotes
		}
	}
	line = min(max(line, 1), len(lines))
	at, what := mark{line, 1 + indentation(lines[line-1])}, explanations[parts[2]]
	switch tab := tabAfter(lines, line); {
	case tab.line == line, tab.line > 0 && parts[2] == badTab:
		at, what = tab, "a tab in the indentation: use spaces"
	case strings.HasPrefix(parts[2], "unknown anchor"):
		what = noAliases
	case what == "":
		what = "this is not YAML: check the quotes and the indentation from here on"
	}
	return at, what
}

// openQuotes is the line of the quotes that are open at the end of some lines;
// 0 if none are. What closes them later was meant to open others.
func openQuotes(lines [][]byte) int {
	_, _, err := parseYAML(bytes.Join(lines, nil))
	if err == nil {
		return 0
	}
	parts := yamlError.FindStringSubmatch(err.Error())
	if parts == nil || parts[2] != unclosedQuotes {
		return 0
	}
	line, _ := strconv.Atoi(parts[1])
	return max(line, 1)
}

// tabAfter is the first tab in the indentation of a line, from the given line
// on; zero if there is none.
func tabAfter(lines [][]byte, line int) mark {
	for ; line <= len(lines); line++ {
		text := lines[line-1]
		if i := bytes.IndexByte(text[:indentation(text)], '\t'); i >= 0 {
			return mark{line, i + 1}
		}
	}
	return mark{}
}

// indentation is the number of blanks and tabs at the start of a line.
func indentation(line []byte) int {
	return len(line) - len(bytes.TrimLeft(line, " \t"))
}
