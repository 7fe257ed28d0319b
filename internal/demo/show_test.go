package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/credagent/credagent/agent/status"
)

var noon = time.Date(2026, time.May, 1, 12, 0, 0, 0, time.UTC)

// in returns an instant so many seconds after noon.
func in(seconds float64) *time.Time {
	at := noon.Add(time.Duration(seconds * float64(time.Second)))
	return &at
}

// midway is a frame with a token as planned, one that is throttled, one that failed and one that
// is not there yet.
func midway() frame {
	return frame{
		elapsed: 23456 * time.Millisecond, length: time.Minute, server: "http://127.0.0.1:4711", requests: 12,
		reading: reading{reads: 4321, tokens: 5},
		status: status.Status{
			Now: noon,
			Tokens: []status.Token{
				{Name: "graph", Client: "a", AcquiredAt: in(-3), Expiry: in(12), RefreshAt: in(2.2)},
				{Name: "reports", Client: "b", AcquiredAt: in(-7), Expiry: in(8), RefreshAt: in(-2), ConsecutiveFailures: 1},
				{Name: "orders", Client: "c", AcquiredAt: in(-12.5), Expiry: in(2.5), RefreshAt: in(1), ConsecutiveFailures: 2},
				{Name: "due", Client: "d", AcquiredAt: in(-15), Expiry: in(-1), RefreshAt: in(-1)},
				{Name: "new", Client: "e"},
			},
			Clients: []status.Client{
				{Name: "b", Gate: status.Gate{BlockedUntil: in(4)}},
				{Name: "c", Gate: status.Gate{RetryAt: in(1.5)}},
			},
		},
	}
}

func TestFrame(t *testing.T) {
	tests := map[string]struct {
		width int
		want  string
	}{
		"wide": {120, `
────────────────────────────────────────────────────────────────────────────────────────────────
23s of 1m0s  server http://127.0.0.1:4711  12 requests
graph     ██████████████████████████│█████░░░░░░░░  expires in 12.0s   refresh in 2.2s
reports   █████████████████████░░░░░│░░░░░░░░░░░░░  expires in 8.0s    throttled for 4.0s
orders    ████│██░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░  expires in 2.5s    next try in 1.5s
due       │░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░  expires in 0.0s    asking for a new one
new       no token yet
graph.token read 4321 times, 0 bad, holds #5
`},
		"narrow": {70, `
──────────────────────────────────────────────────────────────────────
23s of 1m0s  server http://127.0.0.1:4711  12 requests
graph     █████████│█░░░  expires in 12.0s   refresh in 2.2s
reports   ███████░░│░░░░  expires in 8.0s    throttled for 4.0s
orders    █│░░░░░░░░░░░░  expires in 2.5s    next try in 1.5s
due       │░░░░░░░░░░░░░  expires in 0.0s    asking for a new one
new       no token yet
graph.token read 4321 times, 0 bad, holds #5
`},
		"too narrow for bars": {30, `
──────────────────────────────
23s of 1m0s  server http://127
graph     expires in 12.0s   r
reports   expires in 8.0s    t
orders    expires in 2.5s    n
due       expires in 0.0s    a
new       no token yet
graph.token read 4321 times, 0
`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, l := range midway().lines(test.width) {
				if n := utf8.RuneCountInString(l.text); n > test.width {
					t.Errorf("%d wide, want at most %d: %s", n, test.width, l.text)
				}
				got.WriteString("\n" + l.text)
			}
			if got.String()+"\n" != test.want {
				t.Errorf("got:%s\nwant:%s", got.String(), test.want)
			}
		})
	}
}

func TestFrameFitsAnyScreen(t *testing.T) {
	for width := -1; width < 150; width++ {
		for _, l := range midway().lines(width) {
			if n := utf8.RuneCountInString(l.text); n > max(0, width) {
				t.Fatalf("width %d: a line is %d wide: %s", width, n, l.text)
			}
		}
	}
}

func TestFrameColors(t *testing.T) {
	lines := midway().lines(120)
	for i, want := range []string{green, yellow, yellow, red, ""} {
		if got := lines[i+2].color; got != want {
			t.Errorf("%s: color %q, want %q", lines[i+2].text, got, want)
		}
	}
}

// small is a frame of three lines on a screen that is 11 wide.
func small() frame {
	return frame{length: time.Minute, status: status.Status{Now: noon}}
}

const smallPicture = "──────────\n0s of 1m0s\nno file ye\n"

func TestShowKeepsThePictureBelowTheLines(t *testing.T) {
	var out bytes.Buffer
	width := 11
	v := newShow(&out, &Screen{Size: func() (int, int) { return width, 24 }})
	steps := []struct {
		name string
		do   func()
		want string
	}{
		{"close before the first picture", v.close, ""},
		{"a line before the first picture", func() { v.print("one\n") }, "one\n"},
		{"the first picture", func() { v.draw(small()) }, hideCursor + smallPicture},
		{"the next picture", func() { v.draw(small()) }, "\r\x1b[3A" + eraseBelow + smallPicture},
		{"a line above", func() { v.print("two\n") }, "\r\x1b[3A" + eraseBelow + "two\n" + smallPicture},
		{"a line on a narrower screen", func() { width = 5; v.print("three\n") }, "\r\x1b[6A" + eraseBelow + "three\n" + smallPicture},
		{"close", v.close, "\r\x1b[6A" + eraseBelow + showCursor},
		{"close again", v.close, ""},
		{"a line after all", func() { v.print("four\n") }, "four\n"},
	}
	for _, step := range steps {
		out.Reset()
		step.do()
		if got := out.String(); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}

func TestShowLeavesRoomOnALowScreen(t *testing.T) {
	var out bytes.Buffer
	v := newShow(&out, &Screen{Size: func() (int, int) { return 11, 2 }})
	v.draw(small())
	if got, want := out.String(), hideCursor+"──────────\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSummary(t *testing.T) {
	checks := []check{{"one", shown, "thrice"}, {"two", missing, "not seen"}, {"three", broken, "badly"}}
	tests := map[string]struct {
		screen *Screen
		early  bool
		want   string
	}{
		"plain": {nil, false,
			"\nWhat was seen:\n\n  ok      one                  thrice\n  FAILED  two                  not seen\n  FAILED  three                badly\n\n"},
		"stopped early": {nil, true,
			"\nStopped early. What was seen until then:\n\n  ok      one                  thrice\n  -       two                  not seen\n  FAILED  three                badly\n\n"},
		"without color": {&Screen{}, false,
			"\nWhat was seen:\n\n  ok      one                  thrice\n  FAILED  two                  not seen\n  FAILED  three                badly\n\n"},
		"with color": {&Screen{Color: true}, true,
			"\nStopped early. What was seen until then:\n\n  " + green + "ok    " + reset + "  one                  thrice\n  " +
				dim + "-     " + reset + "  two                  not seen\n  " + red + "FAILED" + reset + "  three                badly\n\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			newShow(&out, test.screen).summary(checks, test.early)
			if got := out.String(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
