package host_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/credagent/credagent/internal/host"
)

func TestUsersAndGroups(t *testing.T) {
	lookups := map[string]func(string) (int, error){"user": host.User, "group": host.Group}
	tests := []struct {
		name string
		want int
		err  string
	}{
		{"root", 0, ""},
		{"0", 0, ""},
		{"12345", 12345, ""},
		{"4294967294", 1<<32 - 2, ""},
		{"4294967295", 0, "no such"},
		{"99999999999", 0, "no such"},
		{"no-such-name-here", 0, "check the name, or give a number"},
		{"-1", 0, "no such"},
	}
	for kind, lookUp := range lookups {
		for _, test := range tests {
			t.Run(kind+" "+test.name, func(t *testing.T) {
				if strconv.IntSize == 32 && test.want > 1<<31-1 {
					t.Skip("a number of this size has no place in an int")
				}
				got, err := lookUp(test.name)
				if got != test.want || (err == nil) != (test.err == "") {
					t.Fatalf("got %d, %v; want %d, %q", got, err, test.want, test.err)
				}
				if err != nil && !strings.Contains(err.Error(), test.err) {
					t.Errorf("the error is %q, want %q", err, test.err)
				}
			})
		}
	}
}
