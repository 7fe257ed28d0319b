package sink_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/sink"
)

func TestEnviron(t *testing.T) {
	spaced := graph(canary)
	spaced.Scope = "read write\n\"all\" $HOME"
	got, err := sink.Environ([]sink.Variable{
		{Name: "TOKEN", Token: "graph"}, {Name: "SCOPE", Token: "graph", Field: "scope"}, {Name: "ENDS", Token: "graph", Field: "expires_on"},
	}, having(spaced))
	must(t, err)
	want := []string{"TOKEN=" + canary, "SCOPE=read write\n\"all\" $HOME", "ENDS=1935810489"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, err := sink.Environ(nil, having()); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %q, %v", got, err)
	}
}

func TestEnvironFaults(t *testing.T) {
	zero := graph(canary)
	zero.Scope = "a\x00b"
	var missing *sink.MissingTokenError
	if _, err := sink.Environ([]sink.Variable{{Name: "X", Token: "mail"}}, having(zero)); !errors.As(err, &missing) || missing.Token != "mail" {
		t.Errorf("a token that is not there: %v", err)
	}
	for field, want := range map[string]string{"scope": `variable "X": its value has a zero byte`, "colour": `variable "X": no such field`} {
		got, err := sink.Environ([]sink.Variable{{Name: "T", Token: "graph"}, {Name: "X", Token: "graph", Field: field}}, having(zero))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), canary) || got != nil {
			t.Errorf("%s: %q, %v", field, got, err)
		}
	}
}
