package store

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestNewKey(t *testing.T) {
	created := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	one, err := NewKey(created)
	must(t, err)
	other, err := NewKey(created)
	must(t, err)
	if one == other {
		t.Error("two keys are the same")
	}
	form := regexp.MustCompile(`^# created: 2030-01-02T03:04:05Z\n# public key: age1[0-9a-z]{58}\nAGE-SECRET-KEY-1[0-9A-Z]{58}\n$`)
	if !form.MatchString(one.Reveal()) {
		t.Errorf("a key's file is %q", form.ReplaceAllString(one.Reveal(), ""))
	}
	if _, err := parseKey([]byte(one.Reveal())); err != nil {
		t.Error(err)
	}
}

func TestParseKey(t *testing.T) {
	const public = "age15c0cy82twttwctp4yjnhwfwfgm65hn66v6mhx8s39kcdakx6xvdse9fs59"
	const quantum = "AGE-SECRET-KEY-PQ-1N6NW8AUZYJQXF0ECEA33GLUDET994QUNRRZY3G6E9WR0F85YSGSQWTFEXW"
	const kind = "is not an X25519 key, which begins with AGE-SECRET-KEY-1, as credagent keygen prints it"
	for name, tc := range map[string]struct{ content, want string }{
		"the key alone":      {testKey, ""},
		"with comments":      {"# created: now\n\n# public key: " + public + "\n" + testKey + "\n# end\n", ""},
		"with Windows' ends": {"# a key\r\n" + testKey + "\r\n", ""},
		"empty":              {"", "it holds no key"},
		"comments only":      {"# created: now\n", "it holds no key"},
		"a public key":       {public + "\n", "line 1 is a public key; the file must hold the secret one"},
		"a quantum key":      {"\n" + quantum + "\n", "line 2 " + kind},
		"a second key":       {testKey + "\n" + testKey + "\n", "line 2 is a second key; keep one"},
		"one letter wrong":   {strings.Replace(testKey, "DD45", "DD44", 1), "line 1 " + kind},
		"cut short":          {testKey[:70], "line 1 " + kind},
		"lower case":         {strings.ToLower(testKey), "line 1 " + kind},
		"something else":     {canary, "line 1 " + kind},
		"binary":             {"\x00\xff\n" + testKey, "line 1 " + kind},
		"too large":          {strings.Repeat("#\n", maxKeyFile), "it is larger than 64 KiB, so it is not a key"},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := parseKey([]byte(tc.content))
			if tc.want != "" {
				wantError(t, err, tc.want)
				return
			}
			must(t, err)
			if k.identity.String() != testKey {
				t.Error("it is another key")
			}
		})
	}
}

func TestKeyFilesThatAreNone(t *testing.T) {
	for name, tc := range map[string]struct {
		arrange func(file string) error
		want    string
	}{
		"missing":     {func(string) error { return nil }, "no such file or directory; make one: (umask 077; credagent keygen >"},
		"a directory": {func(file string) error { return os.Mkdir(file, 0o700) }, "it is not a regular file (d"},
		"dangling":    {func(file string) error { return os.Symlink("nowhere", file) }, "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "state-key")
			must(t, tc.arrange(file))
			_, err := Open(filepath.Join(t.TempDir(), "state"), file)
			wantSetup(t, err, "key_file", "reading the state key", tc.want)
		})
	}
}

// TestKeyFileMayBeALink: mounted secrets are.
func TestKeyFileMayBeALink(t *testing.T) {
	file := writeKey(t)
	must(t, os.Symlink(filepath.Base(file), file+"-link"))
	_, err := Open(filepath.Join(t.TempDir(), "state"), file+"-link")
	must(t, err)
}
