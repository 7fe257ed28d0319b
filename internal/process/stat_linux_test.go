package process

import (
	"os"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	tail := strings.Repeat(" 0", 15) + " 4711 0 0"
	for name, tc := range map[string]struct {
		text string
		want Stat
		ok   bool
	}{
		"a process":         {"7 (app) S 1 2 3" + tail, Stat{'S', 1, 2, 3, 4711}, true},
		"an odd name":       {"7 (a) R 9 9 (b) S 1 2 3" + tail, Stat{'S', 1, 2, 3, 4711}, true},
		"ended, not buried": {"7 (app) Z 1 2 3" + tail, Stat{'Z', 1, 2, 3, 4711}, true},
		"cut off":           {"7 (app) S 1 2", Stat{}, false},
		"no name":           {"7 app S 1 2 3" + tail, Stat{}, false},
		"no numbers":        {"7 (app) S a b c" + tail, Stat{}, false},
		"no start":          {"7 (app) S 1 2 3" + strings.Repeat(" 0", 15) + " x", Stat{}, false},
		"a state too long":  {"7 (app) SS 1 2 3" + tail, Stat{}, false},
		"nothing":           {"", Stat{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := parseStat([]byte(tc.text)); ok != tc.ok || ok && got != tc.want || got.Ended() != (tc.want.State == 'Z') {
				t.Errorf("%+v, %v", got, ok)
			}
		})
	}
}

func TestReadStat(t *testing.T) {
	if s, ok := ReadStat(os.Getpid()); !ok || s.Parent != os.Getppid() || s.Start == 0 || s.Ended() {
		t.Errorf("%+v, %v", s, ok)
	}
	if s, ok := ReadStat(1 << 30); ok {
		t.Errorf("%+v of nobody", s)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (app) S 1 2 3" + strings.Repeat(" 0", 15) + " 4711"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, ok := parseStat(text); ok && s.State == 0 {
			t.Errorf("%+v", s)
		}
	})
}
