package printable_test

import (
	"strings"
	"testing"

	"github.com/credagent/credagent/internal/printable"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"plain":                 "plain",
		"0123456789":            "0123456789",
		"0123456789a":           "0123456789…",
		"012345678é":            "012345678…",
		"a\nb\tc\x00":           "a b c ",
		"\x1b[2J":               " [2J",
		"\u202eabc":             " abc",
		"\xffa":                 " a",
		strings.Repeat("é", 50): "ééééé…",
	} {
		if got := printable.Text(in, 10); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}
