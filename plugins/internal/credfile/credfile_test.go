package credfile

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("small", []byte("x"))
	write("largest", bytes.Repeat([]byte("x"), MaxSize))
	write("too large", bytes.Repeat([]byte("x"), MaxSize+1))
	write("empty", nil)
	for name, tc := range map[string]struct {
		size int
		want string // %s stands for the path
	}{
		"small":     {size: 1},
		"largest":   {size: MaxSize},
		"too large": {want: `reading key_file "%s": it is larger than 1 MiB, so it is not a credential`},
		"empty":     {want: `reading key_file "%s": it is empty`},
		"missing":   {want: `reading key_file "%s": no such file or directory`},
		".":         {want: `reading key_file "%s": it is a directory; name a file in it`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			data, err := Read("key_file", path)
			if tc.want == "" {
				if err != nil || len(data) != tc.size {
					t.Errorf("%d bytes, error %v", len(data), err)
				}
				return
			}
			if want := strings.ReplaceAll(tc.want, "%s", path); err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}

// secretFile is a file and what becomes of it.
type secretFile struct {
	content string
	want    string // "" for an error
	refused string // the error of a secret, and of a line unless line is given
	line    string
}

func secretFiles() map[string]secretFile {
	utf16 := func(text string) string {
		var out []byte
		for _, r := range text {
			out = append(out, byte(r), byte(r>>8))
		}
		return string(out)
	}
	return map[string]secretFile{
		"plain":               {content: "sesame", want: "sesame"},
		"line break":          {content: "sesame\n", want: "sesame"},
		"Windows' line break": {content: "sesame\r\n", want: "sesame"},
		"empty lines after":   {content: "sesame\n\r\n\n", want: "sesame"},
		"empty lines before":  {content: "\r\n\nsesame", want: "sesame"},
		"spaces are its own":  {content: " ses ame ", want: " ses ame "},
		"byte order mark":     {content: "\ufeffsesame\r\n", want: "sesame"},
		"UTF-16":              {content: utf16("\ufeffsesame\r\n"), want: "sesame"},
		"UTF-16, no mark":     {content: utf16("sesame\r\n"), want: "sesame"},
		"NUL at the end":      {content: "sesame\x00", want: "sesame"},
		"NULs after a break":  {content: "sesame\n\x00\x00", want: "sesame"},
		"other letters":       {content: "sesäme", want: "sesäme"},
		"line break alone":    {content: "\r\n", refused: "it is empty"},
		"blanks alone":        {content: "  \n", refused: "it is empty"},
		"mark alone":          {content: "\ufeff\n", refused: "it is empty"},
		"NULs alone":          {content: "\x00\x00\x00", refused: "it is empty"},
		"two lines":           {content: "sesame\nopen\n", refused: "it holds 2 lines"},
		"the Mac's two lines": {content: "sesame\ropen", refused: "it holds 2 lines"},
		"empty line within":   {content: "sesame\r\n\r\nopen", refused: "it holds 3 lines"},
		"NUL within":          {content: "ses\x00ame", refused: "it holds a NUL in its middle"},
		"PEM":                 {content: "-----BEGIN PRIVATE KEY-----\nAA\n", refused: "it holds PEM, a certificate or a key, and no secret"},
		"tab":                 {content: "sesame\t", refused: "character 7 of 7 is U+0009", line: "sesame\t"},
		"no-break space":      {content: "\u00a0sesame", refused: "character 1 of 7 is U+00A0", line: "\u00a0sesame"},
		"zero width":          {content: "ses\u200bame", refused: "character 4 of 7 is U+200B", line: "ses\u200bame"},
		"control":             {content: "ses\x1bame", refused: "character 4 of 7 is U+001B", line: "ses\x1bame"},
		"Latin-1":             {content: "ses\xe4me", refused: "it is not text in UTF-8", line: "ses\xe4me"},
	}
}

func TestSecretsInFiles(t *testing.T) {
	for name, tc := range secretFiles() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			check := func(got string, err error, want string) {
				t.Helper()
				if want != "" {
					if err != nil || got != want {
						t.Errorf("got %q, %v", got, err)
					}
					return
				}
				if err == nil || !strings.HasPrefix(err.Error(), "reading secret_file \""+path+"\": "+tc.refused) || strings.Contains(err.Error(), "ses") {
					t.Errorf("error %v", err)
				}
			}
			value, err := ReadSecret("secret_file", path)
			check(value.Reveal(), err, tc.want)
			value, err = ReadLine("secret_file", path)
			check(value.Reveal(), err, tc.want+tc.line)
		})
	}
}

// A secret where the path to it belongs is not shown, and a path with a mistake in it is nearly.
func TestReadShowsNoMoreOfAPathThanExists(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, shown := range map[string]string{
		"/c4nary+s3cret=":                    `"/" exists`,
		"/c4nary/s3cret/with/slashes=":       `"/" exists`,
		dir + "/c4nary/secret":               strconv.Quote(dir) + " exists",
		dir + "/file/c4nary":                 strconv.Quote(dir) + " exists",
		"/" + strings.Repeat("c4nary", 1000): `"/" exists`,
	} {
		_, err := Read("secret_file", path)
		if err == nil || strings.Contains(err.Error(), "c4nary") || !strings.Contains(err.Error(), shown) {
			t.Errorf("error %v", err)
		}
	}
	_, err := Read("secret_file", filepath.Join(dir, "scret"))
	if err == nil || !strings.Contains(err.Error(), "/scret") {
		t.Errorf("error %v", err)
	}
}

// What is taken for a secret holds nothing that a secret does not, and what is refused is not shown.
func FuzzSecret(f *testing.F) {
	for _, seed := range []string{"", "sesame\r\n", "\ufeffsesame", "s\x00e\x00s\x00", "\xff\xfes\x00e\x00", "a\nb", "\x00", "\xe4"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := Secret(data)
		if err != nil {
			return
		}
		text := value.Reveal()
		if text == "" || strings.ContainsAny(text, "\r\n\x00\t\ufeff") || !utf8.ValidString(text) {
			t.Errorf("%q was taken for %q", data, text)
		}
	})
}

// A file that has grown since somebody looked is read whole all the same.
func TestReadAllOfAnySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{0, 1, 5, 6, 7, MaxSize} {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := readAll(file, size); err != nil || string(data) != "sesame" {
			t.Errorf("of %d bytes: %q, %v", size, data, err)
		}
		_ = file.Close()
	}
}
