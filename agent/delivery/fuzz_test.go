package delivery

import (
	"math"
	"os"
	"strconv"
	"testing"
)

// FuzzParsePID looks for what would have the wrong processes signalled: a group, all of them, init, or the
// agent.
func FuzzParsePID(f *testing.F) {
	for _, seed := range []string{"", "0\n", "1", "-1", "+7", "42\n/run\n", " 42 ", "0x2a", "4_2", "99999999999999999999", strconv.Itoa(os.Getpid())} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		pid, err := parsePID(content)
		if err != nil && pid != 0 {
			t.Errorf("%q is %d, and %v", content, pid, err)
		}
		if err == nil && (pid <= 1 || pid > math.MaxInt32 || pid == os.Getpid()) {
			t.Errorf("%q is %d", content, pid)
		}
	})
}
