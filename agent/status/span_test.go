package status

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                  "0s",
		1499 * time.Millisecond:            "1s",
		1500 * time.Millisecond:            "2s",
		59400 * time.Millisecond:           "59s",
		59500 * time.Millisecond:           "1m 0s",
		12*time.Minute + 5*time.Second:     "12m 5s",
		time.Hour:                          "1h 0m",
		47*time.Hour + 59*time.Minute:      "47h 59m",
		48 * time.Hour:                     "2d 0h",
		340*24*time.Hour + 5*time.Hour + 1: "340d 5h",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
