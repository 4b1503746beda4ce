package policy

import "strings"

// A pattern is one item of Rule.Methods, read:
//
//	pattern = package "." Service "/" Method     one method
//	        | package "." Service "/*"           all of a service
//	        | package ".*/*"                     all of exactly that package
//	        | package ".**/*"                    and of all packages below it
//	package = name { "." name }
//
// A name is a protobuf identifier, and letters have their case. A "*" stands
// for exactly one whole name, "**" for one or more.
type pattern struct {
	form form
	// begin is what the names of all methods that match begin with: for an
	// exact pattern the whole name.
	begin string
}

// A form is a way to write a pattern.
type form int

const (
	exact    form = iota // package.Service/Method
	service              // package.Service/*
	packaged             // package.*/*
	below                // package.**/*
)

// parsePattern reads a pattern; ok tells whether it is one.
func parsePattern(text string) (p pattern, ok bool) {
	container, method, _ := strings.Cut(text, "/")
	dot := strings.LastIndexByte(container, '.')
	if dot < 0 {
		return p, false
	}
	names := strings.Split(container[:dot], ".")
	switch last := container[dot+1:]; {
	case method == "*" && last == "*":
		p = pattern{packaged, container[:dot+1]}
	case method == "*" && last == "**":
		p = pattern{below, container[:dot+1]}
	case method == "*":
		p = pattern{service, container + "/"}
		names = append(names, last)
	default:
		p = pattern{exact, text}
		names = append(names, last, method)
	}
	for _, name := range names {
		if !isName(name) {
			return pattern{}, false
		}
	}
	return p, true
}

// isName tells whether a text is a protobuf identifier.
func isName(text string) bool {
	for i, c := range []byte(text) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return text != ""
}

// matches tells whether the pattern matches a method whose name begins with
// p.begin.
func (p pattern) matches(method string) bool {
	switch p.form {
	case exact:
		return len(method) == len(p.begin)
	case packaged: // what follows the package is one name and the method
		return !strings.Contains(method[len(p.begin):], ".")
	}
	return true
}
