package mirror

import (
	_ "embed"
	"strings"
)

//go:embed reads.txt
var readsText string

// Reads returns the methods that are called by another verb than GET and have no
// side effects all the same, as "package.Service/Method". The table is reviewed
// by people: a method that it does not name is a write, whatever its name.
func Reads() []string {
	var reads []string
	for line := range strings.Lines(readsText) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			reads = append(reads, line)
		}
	}
	return reads
}

// looksLikeRead tells whether a name is like those of reads, so that a
// maintainer is asked.
func looksLikeRead(name string) bool {
	for _, prefix := range []string{"Search", "List", "Get", "Find", "Query", "Preview", "Lookup"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
