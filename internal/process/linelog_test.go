package process

import (
	"slices"
	"strings"
	"testing"
)

func TestLineLog(t *testing.T) {
	for name, tc := range map[string]struct {
		writes []string
		want   []string
	}{
		"lines":        {[]string{"a\nb", "c\n"}, []string{"a", "bc"}},
		"last line":    {[]string{"a\n", "last words"}, []string{"a", "last words"}},
		"long line":    {[]string{strings.Repeat("x", 300), strings.Repeat("y", 300), "z\n"}, []string{strings.Repeat("x", 300) + strings.Repeat("y", 200)}},
		"control":      {[]string{"a\x1b[0m\n"}, []string{"a [0m"}},
		"nothing":      {nil, nil},
		"without end":  {[]string{strings.Repeat("x\n", 5*maxLines), "more"}, append(make([]string, 0), strings.Split(strings.Repeat("x", maxLines), "")...)},
		"without line": {[]string{strings.Repeat("x", 5<<20)}, []string{strings.Repeat("x", maxLine)}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			dropped := false
			l := &LineLog{
				Line: func(line string) { got = append(got, line) },
				Full: func(lines int) { dropped = dropped || lines == maxLines },
			}
			for _, text := range tc.writes {
				if n, err := l.Write([]byte(text)); n != len(text) || err != nil {
					t.Fatalf("Write: %d, %v", n, err)
				}
			}
			l.Finish()
			if strings.Join(got, "|") != strings.Join(tc.want, "|") || dropped != (name == "without end") || cap(l.line) > 2*maxLine {
				t.Errorf("got %q, dropped: %v", got, dropped)
			}
		})
	}
}

// What is cleaned is the whole line: a cut before would leave the first part of a secret.
func TestLineLogCleansBeforeItCuts(t *testing.T) {
	secret := strings.Repeat("Abcd3fgh1j", 13<<10) // 130 KiB
	fill := func(n int) string { return strings.Repeat("x", n) }
	for name, tc := range map[string]struct{ line, want string }{
		"short":                     {"a " + secret[:20], "a " + secret[:20]},
		"at the start":              {secret + " end", "[-] end"},
		"across the cut":            {fill(maxLine-20) + secret, fill(maxLine-20) + "[-]"},
		"behind another":            {secret + secret + " end", "[-][-] end"},
		"no end in what is kept":    {secret + secret + secret, ""},
		"no end, long before":       {fill(10) + secret + secret + secret, ""},
		"long, with no secret":      {fill(5 << 20), fill(maxLine) + "…"},
		"long, one at the start":    {secret[:100] + "[-]" + fill(5<<20), secret[:100] + "[-]" + fill(maxLine-103) + "…"},
		"across what is kept of it": {fill(maxRaw-20) + secret, fill(maxLine) + "…"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			l := &LineLog{
				Line:  func(line string) { got = append(got, line) },
				Clean: func(line string) string { return strings.ReplaceAll(line, secret, "[-]") },
				Full:  func(int) {},
			}
			for part := range slices.Chunk([]byte(tc.line+"\nnext\n"), 1000) {
				_, _ = l.Write(part)
			}
			if len(got) != 2 || got[0] != tc.want || got[1] != "next" || cap(l.line) > 2*maxRaw {
				t.Errorf("got %.700q with room for %d bytes, want %.700q", got, cap(l.line), tc.want)
			}
		})
	}
}
