package main

import (
	"os"
	"regexp"
	"runtime/debug"
	"testing"
)

// TestVersionIsTheChangelogs keeps the program and the changelog's newest release the same.
func TestVersionIsTheChangelogs(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	newest := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$`).FindSubmatch(text)
	if newest == nil {
		t.Fatal("CHANGELOG.md has no dated release")
	}
	if got, want := version(), string(newest[1]); got != want {
		t.Errorf("the version is %s, but the changelog's newest release is %s", got, want)
	}
}

func TestCommit(t *testing.T) {
	const revision = "0123456789abcdef0123456789abcdef01234567"
	for name, test := range map[string]struct {
		settings []debug.BuildSetting
		want     string
	}{
		"a clean checkout":   {[]debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: "false"}}, "commit 0123456789ab"},
		"changed files":      {[]debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: "true"}}, "commit 0123456789ab+dirty"},
		"a short revision":   {[]debug.BuildSetting{{Key: "vcs.revision", Value: "r12"}}, "commit r12"},
		"no version control": {nil, "unknown commit"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := commitOf(test.settings); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
