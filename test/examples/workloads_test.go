package examples_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const worksWith = "examples/works-with"

// consumerLink is the first cell of a row of the table of consumers.
var consumerLink = regexp.MustCompile(`^\[[^\]]+\]\(\.\./(examples/works-with/[a-z]+)/README\.md\)$`)

// TestConsumersHaveExamples compares the table of consumers with the examples: each row has one,
// which uses the format and tells of the key, and each example has a row.
func TestConsumersHaveExamples(t *testing.T) {
	listed := map[string]bool{}
	for _, row := range table(t, "docs/workloads.md", "consumer") {
		match := consumerLink.FindStringSubmatch(row[0])
		if match == nil {
			t.Errorf("the row of %s does not begin with a link to its example", row[0])
			continue
		}
		dir := match[1]
		listed[path.Base(dir)] = true
		everything, config := readAll(t, dir), read(t, dir+"/credagent.yaml")
		for _, key := range codes(row[1]) {
			words := strings.FieldsFunc(key, func(r rune) bool { return r == ' ' || r == '.' })
			if last := words[len(words)-1]; !strings.Contains(everything, last) {
				t.Errorf("%s does not show %s", dir, key)
			}
		}
		for _, format := range codes(row[2]) {
			if format != "raw" && !strings.Contains(config, "format: "+format) {
				t.Errorf("%s/credagent.yaml has no sink of format %s", dir, format)
			}
		}
	}
	for _, dir := range directories(t, worksWith) {
		if !listed[dir] {
			t.Errorf("docs/workloads.md does not list %s/%s", worksWith, dir)
		}
		if !strings.Contains(read(t, worksWith+"/README.md"), "("+dir+"/README.md)") {
			t.Errorf("%s/README.md does not list %s", worksWith, dir)
		}
	}
}

// TestConsumersConfigurationsAreValid includes that validate has nothing to warn of.
func TestConsumersConfigurationsAreValid(t *testing.T) {
	for _, dir := range directories(t, worksWith) {
		_, problems := run(t, 0, environment(), "validate", "-c", filepath.Join(hostsCopy(t, filepath.Join(root, worksWith, dir)), "credagent.yaml"))
		if problems != "" {
			t.Errorf("%s: %s", dir, problems)
		}
	}
}

func directories(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		if entry.IsDir() {
			all = append(all, entry.Name())
		}
	}
	return all
}

// readAll returns the content of all files of a directory.
func readAll(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, entry := range entries {
		all.WriteString(read(t, dir+"/"+entry.Name()))
	}
	return all.String()
}
