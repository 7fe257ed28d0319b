package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestListsInLogs: the parts of a list are told apart.
func TestListsInLogs(t *testing.T) {
	for name, tc := range map[string]struct {
		value      any
		text, json string
	}{
		"reasons":  {[]string{`token "a" is not valid`, `token "b" is not valid`}, `key="token \"a\" is not valid, token \"b\" is not valid"`, `["token \"a\" is not valid","token \"b\" is not valid"]`},
		"one":      {[]string{"one"}, "key=one", `["one"]`},
		"none":     {[]string{}, `key=""`, `[]`},
		"numbers":  {[]int{7000222, 50}, `key="7000222, 50"`, `[7000222,50]`},
		"errors":   {[]error{errors.New("a b"), errors.New("c")}, `key="a b, c"`, `[`},
		"named":    {signals{"HUP", "USR1"}, `key="HUP, USR1"`, `["HUP","USR1"]`},
		"bytes":    {[]byte("text"), `key="text"`, `"`},
		"an error": {errors.New("no list"), `key="no list"`, `"no list"`},
		"a while":  {90 * time.Second, "key=1m30s", `"1m30s"`},
	} {
		var text, json bytes.Buffer
		slog.New(newHandler(slog.LevelInfo, false, &text)).Info("event", "key", tc.value)
		slog.New(newHandler(slog.LevelInfo, true, &json)).Info("event", "key", tc.value)
		if !strings.HasSuffix(text.String(), " "+tc.text+"\n") {
			t.Errorf("%s: %s, want %s", name, text.String(), tc.text)
		}
		if !strings.Contains(json.String(), `"key":`+tc.json) {
			t.Errorf("%s: %s, want %s", name, json.String(), tc.json)
		}
	}
}

type signals []string
