package config

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// nearest returns the name with the fewest edits from word, or "" if none
// shares two thirds of its letters.
func nearest(word string, names []string) string {
	best, fewest := "", max(1, len(word)/3)+1
	for _, name := range names {
		if n := edits(word, name); n < fewest {
			best, fewest = name, n
		}
	}
	return best
}

// edits is the optimal string alignment distance in bytes: insertions,
// deletions, replacements, and swaps of neighbours.
func edits(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		current := make([]int, len(b)+1)
		current[0] = i + 1
		for j := range len(b) {
			cost := row[j]
			if a[i] != b[j] {
				cost++
			}
			cost = min(cost, current[j]+1, row[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cost = min(cost, before[j-1]+1)
			}
			current[j+1] = cost
		}
		before, row = row, current
	}
	return row[len(b)]
}

// keys are the keys of a message, in the order of the schema.
func keys(message protoreflect.MessageDescriptor) []string {
	fields := message.Fields()
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = string(fields.Get(i).Name())
	}
	return names
}

// homes are the places of the schema where a key is known, such as listen and
// admin for address. path is where message stands, "" for the root, which is
// not a place to name.
func homes(key string, message protoreflect.MessageDescriptor, path string) []string {
	var found []string
	fields := message.Fields()
	if path != "" && fields.ByName(protoreflect.Name(key)) != nil {
		found = append(found, path)
	}
	for i := range fields.Len() {
		field := fields.Get(i)
		if nested(field) {
			below := string(field.Name())
			if field.IsList() {
				below += "[]"
			}
			found = append(found, homes(key, field.Message(), strings.TrimPrefix(path+"."+below, "."))...)
		}
	}
	return found
}
