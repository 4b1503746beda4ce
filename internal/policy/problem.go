package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Problem is something in a rule that does nothing.
type Problem struct {
	// Rule and Method are indexes into the rules and into that rule's methods;
	// Method is -1 if the problem is none of these.
	Rule, Method int
	// Key is then what it is: class, condition or shadow.
	Key string
	// Message says what was wrong and what to write instead. A text that is no
	// pattern is not in it: it may be a secret that was pasted there.
	Message string
}

// maxProblems is how many problems Compile returns.
const maxProblems = 100

const (
	forms      = "write PACKAGE.SERVICE/METHOD, PACKAGE.SERVICE/*, PACKAGE.*/* or, with the packages below it, PACKAGE.**/*"
	wholeNames = `a "*" stands for a whole name: write the method's name or "*", and class: read for methods without side effects`
)

// malformed says what to do about a text that is no pattern.
func (p *Policy) malformed(text string) string {
	if near := p.suggest(text); near != "" {
		return "is no method or pattern; did you mean " + near + "?"
	}
	if _, method, _ := strings.Cut(text, "/"); method != "*" && strings.Contains(method, "*") {
		return "is no method or pattern: " + wholeNames
	}
	return "is no method or pattern: " + forms
}

// idle says why a rule allows nothing by one of its patterns, and what to do.
func (p *Policy) idle(rule *Rule, text string, pattern pattern) string {
	var matched, outside int // outside are those that the rule's class leaves out
	var one Method
	for i := range p.matching(pattern) {
		matched++
		if one = p.methods[i]; !rule.Class.holds(one) {
			outside++
		}
	}
	switch drafts := matched - outside; {
	case matched == 0:
		return p.unknown(text, pattern)
	case pattern.form == exact && drafts > 0:
		return fmt.Sprintf("%q is a draft method: add include_draft: true", text)
	case pattern.form == exact:
		return fmt.Sprintf("%q has %s, which class: %s leaves out: remove one of them", text, effects(one), rule.Class)
	case outside == 0:
		return fmt.Sprintf("%q matches %s, all draft: add include_draft: true", text, count(matched))
	case drafts == 0:
		return fmt.Sprintf("%q matches %s, all with %s, which class: %s leaves out: remove one of them", text, count(matched), effects(one), rule.Class)
	default:
		return fmt.Sprintf("%q matches %s, but class: %s leaves out %d, and the rest are draft: add include_draft: true",
			text, count(matched), rule.Class, outside)
	}
}

func count(methods int) string {
	if methods == 1 {
		return "1 method"
	}
	return fmt.Sprintf("%d methods", methods)
}

// unknown says that a pattern matches nothing, and what comes nearest.
func (p *Policy) unknown(text string, pattern pattern) string {
	words := fmt.Sprintf("no method is named %q", text)
	if pattern.form != exact {
		words = fmt.Sprintf("%q matches no method", text)
	}
	if near := p.suggest(text); near != "" {
		return words + "; did you mean " + near + "?"
	}
	return words + ": " + forms
}

// suggest returns the patterns that a text most likely means, quoted and joined
// by "or"; "" if it is not known. Each matches something.
func (p *Policy) suggest(text string) string {
	if text != "" && strings.Trim(text, "*./") == "" {
		return quote(p.patterns(func(name string) string { return rootOf(name) + ".**/*" }))
	}
	for _, other := range rewritten(text) {
		if pattern, ok := parsePattern(other); ok {
			for range p.matching(pattern) {
				return quote([]string{other})
			}
		}
	}
	known := slices.Concat(
		p.patterns(func(name string) string { return name }),
		p.patterns(func(name string) string { return name[:strings.IndexByte(name, '/')] + "/*" }),
		p.patterns(func(name string) string { return packageOf(name) + ".*/*" }),
		p.patterns(func(name string) string { return packageOf(name) + ".**/*" }),
	)
	if ends := endings(text, known); len(ends) > 0 {
		return quote(ends)
	}
	if near := nearest(text, known); near != "" {
		return quote([]string{near})
	}
	return ""
}

// rewritten are the ways to write a text as a pattern that people most likely
// mean by it: a URL's path, a name with dots alone, a container without what
// stands for its methods, and one "*" for many names.
func rewritten(text string) []string {
	text = strings.TrimPrefix(text, "/")
	others := []string{text, text + "/*", text + ".*/*", text + ".**/*"}
	if dot := strings.LastIndexByte(text, '.'); dot >= 0 {
		others = append(others, text[:dot]+"/"+text[dot+1:])
	}
	for _, end := range []string{".*", ".*/*"} {
		if rest, ok := strings.CutSuffix(text, end); ok {
			others = append(others, rest+".**/*")
		}
	}
	return others
}

// patterns are the patterns that are made of each method's name, sorted, each
// once.
func (p *Policy) patterns(of func(name string) string) []string {
	made := make(map[string]bool)
	for _, m := range p.methods {
		made[of(m.Name)] = true
	}
	return slices.Sorted(maps.Keys(made))
}

// packageOf is the package of a method, rootOf that package's first name.
func packageOf(name string) string {
	container, _, _ := strings.Cut(name, "/")
	return container[:max(strings.LastIndexByte(container, '.'), 0)]
}

func rootOf(name string) string {
	root, _, _ := strings.Cut(name, ".")
	return root
}

func quote(patterns []string) string {
	quoted := make([]string, len(patterns))
	for i, pattern := range patterns {
		quoted[i] = fmt.Sprintf("%q", pattern)
	}
	return strings.Join(quoted, " or ")
}
