package assertion

import (
	"strings"
	"testing"

	"github.com/credagent/credagent/internal/secret"
)

// Whatever a source hands out, reading it ends in claims that the agent takes or in an error that
// shows nothing of it.
func FuzzReadJWT(f *testing.F) {
	for _, seed := range []string{"", "a.b.c", signed("RS256", `{"sub":"s","exp":2000000000}`), signed("none", "{}"), signed("ES256", `{"exp":1e400}`), `{"payload":"e30","signatures":[]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		jwt, err := readJWT(secret.New(data))
		if err != nil {
			if err.Error() != "it is not a signed JWT" {
				t.Errorf("error %q", err)
			}
			return
		}
		if year := jwt.NotAfter.UTC().Year(); !jwt.NotAfter.IsZero() && (year < 1970 || year > 9999) {
			t.Errorf("%q expires in %d", data, year)
		}
		if dots := strings.Count(data, "."); dots != 2 && dots != 4 {
			t.Errorf("%q was taken as a JWT", data)
		}
	})
}
