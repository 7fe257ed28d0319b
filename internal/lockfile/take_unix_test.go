//go:build unix

package lockfile

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A holder may end between the try and the question who it is.
func TestTake(t *testing.T) {
	type answer struct {
		pid  int
		held bool
	}
	for name, tc := range map[string]struct {
		tries   []error
		holders []answer
		want    string
	}{
		"free":                        {[]error{nil}, nil, ""},
		"held":                        {[]error{unix.EAGAIN}, []answer{{7, true}}, "another credagent uses it, process 7"},
		"held, as other systems say":  {[]error{unix.EACCES}, []answer{{7, true}}, "another credagent uses it, process 7"},
		"in another container":        {[]error{unix.EAGAIN}, []answer{{0, true}}, "another credagent uses it, whose process is not known here: it may be in another container"},
		"the holder has just ended":   {[]error{unix.EAGAIN, nil}, []answer{{0, false}}, ""},
		"another one came in between": {[]error{unix.EAGAIN, unix.EAGAIN}, []answer{{0, false}, {8, true}}, "another credagent uses it, process 8"},
		"they take turns":             {[]error{unix.EAGAIN, unix.EAGAIN}, []answer{{0, false}, {0, false}}, "another credagent uses it, whose process is not known here: it may be in another container"},
		"no locks":                    {[]error{unix.ENOLCK}, nil, "no locks available"},
	} {
		t.Run(name, func(t *testing.T) {
			tried, asked := 0, 0
			err := take(
				func() error { tried++; return tc.tries[tried-1] },
				func() (int, bool) { asked++; return tc.holders[asked-1].pid, tc.holders[asked-1].held },
			)
			if tried != len(tc.tries) || asked != len(tc.holders) || text(err) != tc.want {
				t.Errorf("%v after %d tries and %d questions, want %q", err, tried, asked, tc.want)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
