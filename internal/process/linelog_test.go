package process

import (
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
