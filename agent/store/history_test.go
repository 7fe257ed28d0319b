package store

import (
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

// TestFailureIsOneCleanLine: what people are shown of a record is cleaned when it is written, and again when
// it is read, as somebody else may have written it.
func TestFailureIsOneCleanLine(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"plain":         {"invalid_client (401), the secret has expired", "invalid_client (401), the secret has expired"},
		"sequence":      {"a\x1b[31mred\x07", "a [31mred "},
		"lines":         {"a\r\nb\u2028c\u2029d\u0085e", "a  b c d e"},
		"not UTF-8":     {"a\xff\xfeb", "a  b"},
		"right to left": {"a\u202eb\u2066c", "a b c"},
		"no break":      {"a\u00a0b\u200bc", "a b c"},
		"long":          {strings.Repeat("x", 2*maxMessage), strings.Repeat("x", maxMessage)},
		"cut in a rune": {strings.Repeat("x", maxMessage-1) + "é", strings.Repeat("x", maxMessage-1)},
		"NUL":           {"\x00", " "},
		"nothing":       {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := Record{SavedAt: time.Now(), History: History{Requests: 2, Failure: Failure{Class: policy.Transient, Message: tc.text, Advice: tc.text}}}
			plain, err := encode("graph", r)
			must(t, err)
			got, err := decode("graph", plain)
			must(t, err)
			if f := got.History.Failure; f.Message != tc.want || f.Advice != tc.want || got.History.Requests != 2 {
				t.Errorf("it is %+v, want %q", got.History, tc.want)
			}
		})
	}
}

// TestHistoryIsNeverAhead: no clock that was set back makes a past token valid, or a failure one to come.
func TestHistoryIsNeverAhead(t *testing.T) {
	now := time.Now()
	r := Record{SavedAt: now, History: History{AcquiredAt: now.Add(time.Hour), Expiry: now.Add(2 * time.Hour), Failure: Failure{At: now.Add(time.Hour)}}}
	h := r.restored(now).History
	for what, at := range map[string]time.Time{"issue": h.AcquiredAt, "expiry": h.Expiry, "failure": h.Failure.At} {
		if at.After(now) {
			t.Errorf("its %s is %v ahead", what, at.Sub(now))
		}
	}
	if h := (Record{SavedAt: now}).restored(now).History; h != (History{}) {
		t.Errorf("nothing became %+v", h)
	}
}
