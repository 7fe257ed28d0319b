package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnrunnable(t *testing.T) {
	dir := t.TempDir()
	script := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := script("good", "#!/bin/sh\n", 0o755)
	for name, tc := range map[string]struct {
		words    []string
		why, fix string
	}{
		"a program":           {[]string{"sh", "-c", "a | b"}, "", ""},
		"its path":            {[]string{"/bin/sh"}, "", ""},
		"a script":            {[]string{good, "a b"}, "", ""},
		"env finds it":        {[]string{script("env", "#!/usr/bin/env sh\n", 0o755)}, "", ""},
		"a blank before it":   {[]string{script("blank", "#! /bin/sh -e\n", 0o755)}, "", ""},
		"a path with a blank": {[]string{script("My App/reload", "#!/bin/sh\n", 0o755)}, "", ""},
		"of another kind":     {[]string{script("foreign", "\xca\xfe\xba\xbe\x00\n", 0o755)}, "", ""},
		"an operand":          {[]string{"test", "a", ">", "b"}, "", ""},

		"one word":             {[]string{"systemctl reload app"}, `the command line that begins with "systemctl" is one word`, "run: [systemctl, …]"},
		"one word with a path": {[]string{"/bin/sh -c canary"}, `the command line that begins with "/bin/sh" is one word`, "run: [/bin/sh, …]"},
		"one word for a shell": {[]string{"echo canary | nc app 80"}, `the command line that begins with "echo" is one word`, `run: [sh, -c, "…"]`},
		"not installed":        {[]string{"no-such-program", "canary"}, `there is no program "no-such-program" in the directories of PATH`, "absolute path"},
		"a builtin":            {[]string{"source", "canary"}, `there is no program "source" in`, "[sh, -c"},
		"no such file":         {[]string{filepath.Join(dir, "none")}, "there is no program", "correct the path"},
		"a directory":          {[]string{dir}, "", "a program"},
		"no permission":        {[]string{script("data", "#!/bin/sh\n", 0o644)}, "may not be executed", "chmod +x"},
		"no first line":        {[]string{script("plain", "echo canary\n", 0o755)}, "its first line names none that reads it", "begin it with #!/bin/sh"},
		"empty":                {[]string{script("empty", "", 0o755)}, "its first line names none", "begin it"},
		"no interpreter":       {[]string{script("interpreter", "#!/usr/bin/no-such-shell -e\n", 0o755)}, `is to be read by "/usr/bin/no-such-shell"`, "first line"},
		"of Windows":           {[]string{script("windows", "#!/bin/sh\r\necho\r\n", 0o755)}, `is to be read by "/bin/sh "`, "carriage return"},
		"a pipe":               {[]string{"sh", "canary", "|", "sh"}, `gets the argument "|" as it stands`, "[sh, -c"},
		"a redirection":        {[]string{"sh", "canary", ">>", "log"}, `gets the argument ">>" as it stands`, "[sh, -c"},
	} {
		t.Run(name, func(t *testing.T) {
			why, fix := Unrunnable(tc.words)
			if !strings.Contains(why, tc.why) || !strings.Contains(fix, tc.fix) || tc.fix == "" && why != "" || (why == "") != (fix == "") {
				t.Errorf("%q, %q; want %q, %q", why, fix, tc.why, tc.fix)
			}
			if strings.Contains(why+fix, "canary") {
				t.Errorf("it shows an argument: %q, %q", why, fix)
			}
		})
	}
}
