package c1proxy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// pages are what people read, with the commands and links that they follow.
func pages(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("docs/*.md")
	if err != nil || len(names) < 5 {
		t.Fatalf("docs has only %v: %v", names, err)
	}
	return append(names, "README.md", "CONTRIBUTING.md")
}

// Every snippet that is a whole configuration passes config check as it
// stands, but for the hash that a reader puts in.
func TestSnippets(t *testing.T) {
	hash, whole := strings.Repeat("0", 64), 0
	for _, name := range pages(t) {
		for _, snippet := range regexp.MustCompile(`(?m)(?:^    .*\n|^\n)+`).FindAllString(document(t, name), -1) {
			if !strings.Contains(snippet, "    teams:\n") || !strings.Contains(snippet, "    audit:") {
				continue // a part of one
			}
			whole++
			text := regexp.MustCompile(`(?m)^    `).ReplaceAllString(strings.ReplaceAll(snippet, "<64 hex>", hash), "")
			file := filepath.Join(t.TempDir(), "c1proxy.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Read(file, proxy.Check); err != nil {
				t.Errorf("%s: %v\n%s", name, err, text)
			}
		}
	}
	if whole < 2 {
		t.Errorf("only %d whole configurations: README.md and docs/gateway.md have one each", whole)
	}
}

// Links lead to files and headings that are there.
func TestLinks(t *testing.T) {
	punctuation := regexp.MustCompile(`[^\w -]`)
	for _, name := range pages(t) {
		for _, found := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(document(t, name), -1) {
			link, heading, _ := strings.Cut(found[1], "#")
			if strings.Contains(link, "://") {
				continue
			}
			target := name
			if link != "" {
				target = filepath.Join(filepath.Dir(name), link)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			there := heading == ""
			for _, head := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(document(t, target), -1) {
				there = there || strings.ReplaceAll(punctuation.ReplaceAllString(strings.ToLower(head[1]), ""), " ", "-") == heading
			}
			if !there {
				t.Errorf("%s: %s has no heading %s", name, target, heading)
			}
		}
	}
}
