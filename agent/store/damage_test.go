package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wantDamage loads a token whose file is damaged, beside one whose file is not, and then replaces
// it: damage costs what is in the file and nothing else.
func wantDamage(t *testing.T, s *Store, parts ...string) {
	t.Helper()
	_, err := s.Load("graph")
	var damage *DamageError
	if !errors.As(err, &damage) || damage.Path != filepath.Join(s.dir, "graph.age") {
		t.Fatalf("Load() = %v, want damage", err)
	}
	wantError(t, err, append(parts, "is ignored and will be replaced", damage.Path)...)
	all, failed := s.LoadAll()
	if _, there := all["other"]; !there || len(all) != 1 || len(failed) != 1 || !errors.As(failed[0], &damage) {
		t.Errorf("LoadAll() has %d records and fails with %v", len(all), failed)
	}
	must(t, s.Save("graph", sample("graph")))
	if _, err := s.Load("graph"); err != nil {
		t.Errorf("it was not replaced: %v", err)
	}
}

// twoTokens is a store with a token to damage and one to keep.
func twoTokens(t *testing.T) (s *Store, sealed []byte) {
	t.Helper()
	s = newStore(t)
	must(t, s.Save("other", sample("other")))
	must(t, s.Save("graph", sample("graph")))
	sealed, err := os.ReadFile(filepath.Join(s.dir, "graph.age"))
	must(t, err)
	return s, sealed
}

func TestDamagedContent(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(t *testing.T, s *Store, sealed []byte) []byte
		want   string
	}{
		"empty":     {func(*testing.T, *Store, []byte) []byte { return nil }, "it is empty"},
		"truncated": {func(_ *testing.T, _ *Store, sealed []byte) []byte { return sealed[:len(sealed)-1] }, "it is damaged"},
		"header only": {func(_ *testing.T, _ *Store, sealed []byte) []byte {
			return sealed[:bytes.Index(sealed, []byte("\n---"))+1]
		}, "it is damaged"},
		"longer": {func(_ *testing.T, _ *Store, sealed []byte) []byte { return append(sealed, 0) }, "it is damaged"},
		"huge":   {func(*testing.T, *Store, []byte) []byte { return make([]byte, maxFile+1) }, "it is larger than 1 MiB"},
		"zeros":  {func(_ *testing.T, _ *Store, sealed []byte) []byte { return make([]byte, len(sealed)) }, "it is damaged"},
		"a key":  {func(*testing.T, *Store, []byte) []byte { return []byte(testKey + "\n") }, "it is damaged"},
		"wrong key": {func(t *testing.T, _ *Store, _ []byte) []byte {
			sealed, err := newStore(t).seal("graph", sample("graph"))
			must(t, err)
			return sealed
		}, "this key does not open it"},
		"another token's": {func(t *testing.T, s *Store, _ []byte) []byte {
			sealed, err := os.ReadFile(filepath.Join(s.dir, "other.age"))
			must(t, err)
			return sealed
		}, `it holds the state of token "other"`},
	} {
		t.Run(name, func(t *testing.T) {
			s, sealed := twoTokens(t)
			put(t, s, "graph", tc.damage(t, s, sealed))
			wantDamage(t, s, tc.want)
		})
	}
}

// TestEveryBitAndEveryLengthCounts flips each byte of a file, and cuts it at each length.
func TestEveryBitAndEveryLengthCounts(t *testing.T) {
	s, sealed := twoTokens(t)
	check := func(what string, at int, damaged []byte) {
		if _, err := s.unseal("graph", damaged); err == nil {
			t.Errorf("%s %d of %d is not noticed", what, at, len(sealed))
		} else if strings.Contains(err.Error(), "\n") || len(err.Error()) > 200 {
			t.Errorf("%s %d: the error is %q", what, at, err)
		}
	}
	for i := range sealed {
		flipped := bytes.Clone(sealed)
		flipped[i] ^= 1 << (i % 8)
		check("the flipped byte", i, flipped)
		check("the cut at", i, sealed[:i])
	}
}

func TestInTheFilesPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		arrange func(path string) error
		want    string
	}{
		"a directory":     {func(path string) error { return os.Mkdir(path, 0o700) }, "it is not a regular file (d"},
		"a link":          {func(path string) error { return os.Symlink("other.age", path) }, "it is not a regular file (L"},
		"a dangling link": {func(path string) error { return os.Symlink("nowhere", path) }, "it is not a regular file (L"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := twoTokens(t)
			path := filepath.Join(s.dir, "graph.age")
			must(t, os.Remove(path))
			must(t, tc.arrange(path))
			wantDamage(t, s, tc.want)
			if got := entries(t, s.dir); got != "graph.age other.age" {
				t.Errorf("the directory has %q", got)
			}
		})
	}
}

// TestDirectoryWithSomethingInIt: it may be anybody's, so it is not removed.
func TestDirectoryWithSomethingInIt(t *testing.T) {
	s := newStore(t)
	inside := filepath.Join(s.dir, "graph.age", "theirs")
	must(t, os.MkdirAll(inside, 0o700))
	wantError(t, s.Save("graph", sample("graph")), `saving the state of token "graph"`, "a directory is in its place", "remove it")
	if _, err := os.Stat(inside); err != nil {
		t.Error(err)
	}
}

func TestTooLargeToSave(t *testing.T) {
	s, _ := twoTokens(t)
	r := sample("graph")
	r.Challenge.Claims = `{"x":"` + strings.Repeat("x", maxFile) + `"}`
	wantError(t, s.Save("graph", r), "more than a record may have")
	if got, err := s.Load("graph"); err != nil || got.Challenge != sample("graph").Challenge {
		t.Errorf("the old record is gone: %v", err)
	}
	r.Challenge.Claims, r.AcquiredAt = "", time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	wantError(t, s.Save("graph", r), "an instant in it cannot be written down")
}

// TestForms decodes what a correct key opened.
func TestForms(t *testing.T) {
	const nonsense = "it does not hold a record"
	whole := func(change map[string]any) string {
		f := map[string]any{
			"version": 1, "token": "graph", "saved_at": "2030-01-02T03:04:05.000000006Z",
			"attempts": map[string]any{"class": "success"},
			"grant":    map[string]any{"access_token": canary, "token_type": "Bearer", "expiry": "2030-01-02T04:04:05Z"},
		}
		maps.Copy(f, change)
		plain, err := json.Marshal(f)
		must(t, err)
		return string(plain)
	}
	for name, tc := range map[string]struct{ plain, want string }{
		"whole":              {whole(nil), ""},
		"more than is known": {whole(map[string]any{"surplus": 1}), ""},
		"no token yet":       {whole(map[string]any{"grant": nil}), ""},
		"a challenge":        {whole(map[string]any{"challenge": map[string]any{"claims": "{}"}}), ""},
		"nothing":            {"", nonsense},
		"no JSON":            {canary, nonsense},
		"a list":             {"[]", nonsense},
		"null":               {"null", nonsense},
		"two":                {whole(nil) + whole(nil), nonsense},
		"newer":              {`{"version":2,"token":{"anything":1}}`, nonsense},
		"newer, as foreseen": {whole(map[string]any{"version": 2}), "written by a newer version of credagent, in form 2; this one knows form 1"},
		"no version":         {whole(map[string]any{"version": 0}), nonsense},
		"no number":          {whole(map[string]any{"version": canary}), nonsense},
		"another token's":    {whole(map[string]any{"token": "other"}), `it holds the state of token "other"`},
		"nobody's":           {whole(map[string]any{"token": "\n"}), nonsense},
		"saved at no time":   {whole(map[string]any{"saved_at": "0001-01-01T00:00:00Z"}), nonsense},
		"no instant":         {whole(map[string]any{"saved_at": canary}), nonsense},
		"unknown class":      {whole(map[string]any{"attempts": map[string]any{"class": canary}}), nonsense},
		"failures no number": {whole(map[string]any{"gate": map[string]any{"failures": 1e40}}), nonsense},
		"an empty token":     {whole(map[string]any{"grant": map[string]any{"expiry": "2030-01-02T04:04:05Z"}}), nonsense},
		"a token of lines":   {whole(map[string]any{"grant": map[string]any{"access_token": "a\nb", "expiry": "2030-01-02T04:04:05Z"}}), nonsense},
		"a type of lines":    {whole(map[string]any{"grant": map[string]any{"access_token": "a", "token_type": "\r", "expiry": "2030-01-02T04:04:05Z"}}), nonsense},
		"a token of words":   {whole(map[string]any{"grant": map[string]any{"access_token": "a b", "token_type": "Bearer", "expiry": "2030-01-02T04:04:05Z"}}), nonsense},
		"a token too long":   {whole(map[string]any{"grant": map[string]any{"access_token": strings.Repeat("a", maxToken+1), "token_type": "Bearer", "expiry": "2030-01-02T04:04:05Z"}}), nonsense},
		"no type":            {whole(map[string]any{"grant": map[string]any{"access_token": "a", "expiry": "2030-01-02T04:04:05Z"}}), nonsense},
		"another type":       {whole(map[string]any{"grant": map[string]any{"access_token": "a", "token_type": "DPoP", "expiry": "2030-01-02T04:04:05Z"}}), nonsense},
		"claims too long":    {whole(map[string]any{"challenge": map[string]any{"claims": `{"a":"` + strings.Repeat("a", maxClaims) + `"}`}}), nonsense},
		"claims no object":   {whole(map[string]any{"challenge": map[string]any{"claims": "[]"}}), nonsense},
		"claims are null":    {whole(map[string]any{"challenge": map[string]any{"claims": "null"}}), nonsense},
		"answers no object":  {whole(map[string]any{"challenge": map[string]any{"answered": "[]"}}), nonsense},
		"claims are no JSON": {whole(map[string]any{"challenge": map[string]any{"claims": canary}}), nonsense},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decode("graph", []byte(tc.plain))
			if tc.want == "" {
				must(t, err)
				return
			}
			wantError(t, err, tc.want)
		})
	}
}
