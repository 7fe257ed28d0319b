package credfile

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
		".":         {want: `reading key_file "%s": is a directory`},
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

func TestReadLine(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"plain":               {"sesame", "sesame"},
		"line break":          {"sesame\n", "sesame"},
		"Windows' line break": {"sesame\r\n", "sesame"},
		"only one":            {"sesame\n\n", "sesame\n"},
		"spaces are its own":  {" ses ame ", " ses ame "},
		"line break alone":    {"\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadLine("secret_file", path)
			if got.Reveal() != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("got %q, %v", got.Reveal(), err)
			}
		})
	}
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
