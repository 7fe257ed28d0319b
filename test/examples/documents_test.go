package examples_test

import (
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// documents returns the names of all the project's texts, from the root.
func documents(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"docs", "examples"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if filepath.Ext(path) == ".md" {
				names = append(names, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range names {
		relative, err := filepath.Rel(root, name)
		if err != nil {
			t.Fatal(err)
		}
		names[i] = filepath.ToSlash(relative)
	}
	return names
}

// blocks returns the fenced blocks of a language.
func blocks(text, language string) []string {
	pattern := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```$")
	var found []string
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	return found
}

// base is what a block of YAML that shows a part of a configuration is a part of.
var base = []struct{ key, text string }{
	{"clients", `clients:
  payments:
    token_url: https://login.example.com/token
    client_id: payments
    credential: { provider: secretcred, config: { secret_file: /etc/credagent/payments.secret } }
`},
	{"tokens", `tokens:
  graph: { client: payments, scopes: [read] }
`},
}

// complete makes a whole configuration of a part of one.
func complete(part string) string {
	whole := part
	for _, section := range base {
		if !regexp.MustCompile(`(?m)^` + section.key + `:`).MatchString(part) {
			whole += section.text
		}
	}
	return whole
}

func TestYAMLInDocumentsIsValid(t *testing.T) {
	found := 0
	for _, name := range documents(t) {
		for _, block := range blocks(read(t, name), "yaml") {
			found++
			config := filepath.Join(t.TempDir(), "credagent.yaml")
			write(t, config, ofThisHost(withProviders(complete(block))))
			t.Logf("%s:\n%s", name, block)
			run(t, 0, environment(), "validate", "-c", config)
		}
	}
	if found == 0 {
		t.Error("no document has a block of YAML")
	}
}

// ofThisHost puts a user and a group that every host has into a configuration, where it names those of
// an application that may not be installed here.
func ofThisHost(config string) string {
	account := regexp.MustCompile(`\b(user|owner|group): *"?[A-Za-z_][A-Za-z0-9_-]*"?`)
	return account.ReplaceAllString(config, "$1: root")
}

// hostsCopy copies an example to where its configurations may be changed for this host.
func hostsCopy(t *testing.T, dir string) string {
	t.Helper()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	configs, err := filepath.Glob(filepath.Join(copied, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range configs {
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		write(t, config, ofThisHost(string(text)))
	}
	return copied
}

// TestCommandsInExamplesRun runs the shell blocks of the examples' texts as far as they call
// credagent without a server.
func TestCommandsInExamplesRun(t *testing.T) {
	harmless := regexp.MustCompile(`^(set -a;.*|credagent (validate|schema|plugins|version)\b.*)$`)
	ran := 0
	for _, name := range documents(t) {
		if !strings.HasPrefix(name, "examples/") {
			continue
		}
		for _, block := range blocks(read(t, name), "sh") {
			var script []string
			for line := range strings.Lines(block) {
				if line = strings.TrimSpace(line); harmless.MatchString(line) {
					script = append(script, line)
				}
			}
			if len(script) == 0 {
				continue
			}
			ran++
			cmd := exec.CommandContext(t.Context(), "sh", "-ec", strings.Join(script, "\n"))
			cmd.Dir = hostsCopy(t, filepath.Join(root, filepath.Dir(name)))
			execute(t, 0, environment(), cmd)
		}
	}
	if ran < 3 {
		t.Errorf("%d examples have commands to run, want one of each", ran)
	}
}

func TestRelativeLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, name := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(read(t, name), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(match[1], "#")
			at := filepath.Join(filepath.Dir(name), target)
			if target == "" {
				at = name
			}
			if _, err := os.Stat(filepath.Join(root, at)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, match[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, at)), anchor) {
				t.Errorf("%s links to %s, but %s has no such heading", name, match[1], at)
			}
		}
	}
}

// anchors are the names that a page's headings get where Markdown is shown.
func anchors(text string) []string {
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped := regexp.MustCompile(`[^a-z0-9 _-]`)
	var all []string
	for _, match := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-"))
	}
	return all
}

func TestReadmeListsTheCommands(t *testing.T) {
	help, _ := run(t, 0, environment(), "--help")
	_, groups, _ := strings.Cut(help, "\nEveryday commands:\n")
	groups, _, _ = strings.Cut(groups, "\nFlags:\n")
	var commands []string
	for line := range strings.Lines(groups) {
		if strings.HasPrefix(line, "  ") && strings.Fields(line)[0] != "help" {
			commands = append(commands, strings.Fields(line)[0])
		}
	}
	same(t, "commands", commands, names(table(t, "README.md", "command")))
}

func TestQuickStartHasTwoCommands(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "README.md"), "## Quick start\n")
	section, _, _ = strings.Cut(section, "\n## ")
	commands := strings.Fields(strings.Join(blocks(section, "sh"), ""))
	want := "go run ./cmd/credagent demo make test"
	if got := strings.Join(commands, " "); got != want {
		t.Errorf("the quick start says %q, want %q", got, want)
	}
	if makefile := read(t, "Makefile"); !regexp.MustCompile(`(?m)^test:`).MatchString(makefile) {
		t.Error("the Makefile has no target test")
	}
	if ci := read(t, ".ci/run"); !strings.Contains(ci, "make test") {
		t.Error(".ci/run does not run the README's test command")
	}
}

// TestIndexListsEveryDocument checks that docs/README.md lists every document.
func TestIndexListsEveryDocument(t *testing.T) {
	index := read(t, "docs/README.md")
	for _, name := range documents(t) {
		if dir := filepath.Dir(name); (dir == "docs" && name != "docs/README.md") && !strings.Contains(index, "("+filepath.Base(name)+")") {
			t.Errorf("docs/README.md does not list %s", name)
		}
		if filepath.Dir(name) == "." && !strings.Contains(index, "(../"+name+")") && !strings.Contains(index, "(../"+name+"#") {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}

// TestFirstScreen keeps the order of what a newcomer needs: a picture, the commands, the way to a
// token of one's own, and then why to trust it.
func TestFirstScreen(t *testing.T) {
	rest := read(t, "README.md")
	for _, part := range []string{"(docs/images/flow.svg)", "\n## Quick start\n", "\n## From nothing to a token\n", "\n## Why to trust it\n", "(docs/coming-from.md)", "\n## Install\n"} {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Fatalf("README.md has no %q, or not in its place", part)
		}
		rest = after
	}
}

// TestPicturesAreThereAndDescribed checks that a document shows every diagram, with an alternative text.
func TestPicturesAreThereAndDescribed(t *testing.T) {
	picture := regexp.MustCompile(`!\[([^\]]*)\]\(([^)]+\.svg)\)`)
	shown := map[string]bool{}
	for _, name := range documents(t) {
		for _, match := range picture.FindAllStringSubmatch(read(t, name), -1) {
			shown[filepath.Base(match[2])] = true
			if len(strings.Fields(match[1])) < 4 {
				t.Errorf("%s shows %s as %q, which tells nothing", name, match[2], match[1])
			}
		}
	}
	for _, diagram := range []string{"flow.svg", "life.svg", "pod.svg", "which.svg"} {
		if !shown[diagram] {
			t.Errorf("no document shows %s", diagram)
		}
	}
}

// TestChangelogIsDated keeps the releases in their order, each with its day and with groups of the format.
func TestChangelogIsDated(t *testing.T) {
	release := regexp.MustCompile(`^## \[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d{2}-\d{2})$`)
	groups := []string{"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
	lastDay, lastVersion, releases := "9999-12-31", []int{math.MaxInt, 0, 0}, 0
	for line := range strings.Lines(read(t, "CHANGELOG.md")) {
		line = strings.TrimSpace(line)
		if group, found := strings.CutPrefix(line, "### "); found && !slices.Contains(groups, group) {
			t.Errorf("%q is no group", group)
		}
		if !strings.HasPrefix(line, "## ") || line == "## [Unreleased]" && releases == 0 {
			continue
		}
		match := release.FindStringSubmatch(line)
		if match == nil {
			t.Errorf("%q is no heading of a release", line)
			continue
		}
		var version []int
		for _, part := range match[1:4] {
			n, err := strconv.Atoi(part)
			if err != nil {
				t.Fatal(err)
			}
			version = append(version, n)
		}
		if match[4] > lastDay || slices.Compare(version, lastVersion) >= 0 {
			t.Errorf("%q is not older than the release above it", line)
		}
		lastDay, lastVersion, releases = match[4], version, releases+1
	}
	if releases == 0 {
		t.Error("the changelog has no release")
	}
}
