package api

import (
	"testing"
	"time"
)

// TestWordsAreThoseOfWholeMilliseconds: the page's script has no more of an instant and of the time,
// so the server goes by the same, also where the exact times would be rounded to another second.
func TestWordsAreThoseOfWholeMilliseconds(t *testing.T) {
	second := time.Unix(1_700_000_000, 0)
	for _, tt := range []struct {
		name    string
		now, at time.Duration
		want    string
	}{
		{"half a second ago by the milliseconds, less by the clock", 500 * time.Millisecond, 900 * time.Microsecond, "1s ago"},
		{"less by the milliseconds, half a second by the clock", 1000*time.Millisecond - time.Nanosecond, 499*time.Millisecond + 999*time.Microsecond, "1s ago"},
		{"not half a second ago by either", 500*time.Millisecond - time.Nanosecond, 0, "0s ago"},
		{"just acquired", 0, 0, "0s ago"},
		{"to come within the same millisecond", 100 * time.Microsecond, 900 * time.Microsecond, "0s ago"},
		{"past within the same millisecond", 900 * time.Microsecond, 100 * time.Microsecond, "0s ago"},
		{"nearly half a second to come by the clock, half by the milliseconds", 900 * time.Microsecond, 500*time.Millisecond + 100*time.Microsecond, "in 1s"},
		{"half a second to come by the clock, less by the milliseconds", 0, 499*time.Millisecond + 999*time.Microsecond, "now"},
		{"a minute by the milliseconds", 400 * time.Microsecond, 59*time.Second + 500*time.Millisecond, "in 1m 0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := second.Add(tt.at)
			if got := ahead(second.Add(tt.now), &at).Words; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
