package plugins

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

type settings struct {
	File   string         `json:"file"`
	On     bool           `json:"on,omitempty"`
	Names  []string       `json:"names"`
	Count  int            `json:"count"`
	Share  float64        `json:"share"`
	Wait   Duration       `json:"wait"`
	Extra  map[string]any `json:"extra"`
	Other  string         // no tag: no key
	Hidden string         `json:"-"`
}

func TestDecodeConfig(t *testing.T) {
	const known = "unknown key; known are count, extra, file, names, on, share, wait"
	for name, tc := range map[string]struct {
		config string
		want   []string
	}{
		"everything":       {`{"file":"/f","on":true,"names":["a"],"count":3,"share":0.5,"wait":"90s","extra":{"a":1}}`, nil},
		"nothing":          {`{}`, nil},
		"null values":      {`{"file":null,"names":null}`, nil},
		"unknown":          {`{"fiel":"x"}`, []string{"fiel: " + known}},
		"untagged":         {`{"Other":"x","-":"x"}`, []string{"-: " + known, "Other: " + known}},
		"wrong types":      {`{"file":1,"on":"yes","names":"a","count":"3","share":[],"wait":90,"extra":[]}`, []string{"count: is not a number", "extra: is not of the right type", "file: is not a string", "names: is not a list", "on: is not true or false", "share: is not a number", `wait: is not a duration such as "90s"`}},
		"no duration":      {`{"wait":"soon"}`, []string{`wait: is not a duration such as "90s"`}},
		"values not shown": {`{"count":"canary","wait":"canary"}`, []string{"count: is not a number", `wait: is not a duration such as "90s"`}},
		"a list":           {`[]`, []string{"is not an object of keys and values"}},
		"no JSON":          {`{"file`, []string{"is not an object of keys and values"}},
		"empty":            {``, []string{"is not an object of keys and values"}},
	} {
		t.Run(name, func(t *testing.T) {
			var into settings
			err := DecodeConfig(json.RawMessage(tc.config), &into)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if strings.Join(got, "|") != strings.Join(tc.want, "|") {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	into := settings{File: "kept", Wait: Duration(time.Minute)}
	if err := DecodeConfig(json.RawMessage(`{"names":["a"]}`), &into); err != nil || into.File != "kept" || into.Wait != Duration(time.Minute) || into.Names[0] != "a" {
		t.Errorf("defaults became %+v, %v", into, err)
	}
}

// A part that several providers share is embedded.
func TestDecodeConfigWithEmbedded(t *testing.T) {
	type Shared struct {
		Method string `json:"method"`
	}
	into := struct {
		File string `json:"file"`
		Shared
	}{Shared: Shared{"default"}}
	if err := DecodeConfig(json.RawMessage(`{"file":"/f"}`), &into); err != nil || into.File != "/f" || into.Method != "default" {
		t.Errorf("decoded %+v, %v", into, err)
	}
	if err := DecodeConfig(json.RawMessage(`{"method":"post"}`), &into); err != nil || into.Method != "post" {
		t.Errorf("decoded %+v, %v", into, err)
	}
	err := DecodeConfig(json.RawMessage(`{"method":1,"Shared":{}}`), &into)
	if want := "Shared: unknown key; known are file, method\nmethod: is not a string"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestAbsolutePath(t *testing.T) {
	for path, want := range map[string]string{"": "", "/a": "", "a/b": "k: is not an absolute path"} {
		got := ""
		if err := AbsolutePath("k", path); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("AbsolutePath(%q) = %q, want %q", path, got, want)
		}
	}
}

// Whatever comes, decoding ends in values or in problems that the agent can place.
func FuzzDecodeConfig(f *testing.F) {
	for _, seed := range []string{`{}`, `{"file":"/f","wait":"90s"}`, `{"count":"x","fiel":1}`, `[`, `null`, `{"file":"a","file":"b"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		var into settings
		err := DecodeConfig(config, &into)
		if err == nil {
			if !json.Valid(config) || into.Other+into.Hidden != "" {
				t.Errorf("%q was taken as %+v", config, into)
			}
			return
		}
		var problem *ConfigError
		for _, p := range problems(err) {
			if p.Message == "" || !errors.As(err, &problem) {
				t.Errorf("%q: problem %+v", config, p)
			}
		}
	})
}
