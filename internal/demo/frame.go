package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/credagent/credagent/agent/status"
)

const (
	widestBar = 40
	// besides is the width of a token's line without its bar.
	besides = 56
)

// frame is the content of one drawing of the live view.
type frame struct {
	elapsed  time.Duration
	length   time.Duration
	server   string
	requests int
	reading  reading
	status   status.Status
}

// line is a line of the picture, with a color from one rune to another.
type line struct {
	text     string
	from, to int
	color    string
}

// lines draws the frame, no line wider than width.
func (f frame) lines(width int) []line {
	lines := []line{
		{text: strings.Repeat("─", max(0, min(width, widestBar+besides)))},
		{text: fmt.Sprintf("%s of %s  server %s  %d requests", f.elapsed.Truncate(time.Second), f.length, f.server, f.requests)},
	}
	for _, t := range f.status.Tokens {
		lines = append(lines, f.token(t, min(widestBar, width-besides)))
	}
	lines = append(lines, line{text: f.read()})
	for i := range lines {
		lines[i].text = fit(lines[i].text, width)
	}
	return lines
}

// token draws the rest of a token's lifetime. If the bar would be too narrow, it uses text only.
func (f frame) token(t status.Token, width int) line {
	name := fmt.Sprintf("%-8s  ", t.Name)
	if t.Expiry == nil || t.AcquiredAt == nil {
		return line{text: name + "no token yet"}
	}
	words := fmt.Sprintf("expires in %-6s  %s", left(f.status.Now, *t.Expiry), f.plan(t))
	if width < 8 {
		return line{text: name + words}
	}
	life := t.Expiry.Sub(*t.AcquiredAt)
	l := line{from: len(name), to: len(name) + width, color: f.color(t, life)}
	l.text = name + bar(width, share(t.Expiry.Sub(f.status.Now), life), share(t.Expiry.Sub(instant(t.RefreshAt)), life)) + "  " + words
	return l
}

// plan describes a token's next event, and why it has to wait if it does.
func (f frame) plan(t status.Token) string {
	next := nextRequest(f.status, t)
	wait := left(f.status.Now, next)
	gate := gateOf(f.status, t.Client)
	switch {
	case !next.After(f.status.Now):
		return "asking for a new one"
	case instant(gate.BlockedUntil).After(f.status.Now):
		return "throttled for " + wait
	case t.ConsecutiveFailures > 0:
		return "next try in " + wait
	}
	return "refresh in " + wait
}

func (f frame) color(t status.Token, life time.Duration) string {
	switch remaining := t.Expiry.Sub(f.status.Now); {
	case remaining <= 0:
		return red
	case t.ConsecutiveFailures > 0 || remaining < life/5:
		return yellow
	}
	return green
}

func (f frame) read() string {
	if f.reading.reads == 0 {
		return "no file yet"
	}
	return fmt.Sprintf("%s read %s, %d bad, holds #%d", rawSink, times(f.reading.reads), f.reading.bad, f.reading.tokens)
}

// bar draws the remaining share of a lifetime, with a mark where a refresh is due.
func bar(width int, left, mark float64) string {
	cells := []rune(strings.Repeat("█", int(left*float64(width)+0.5)))
	for len(cells) < width {
		cells = append(cells, '░')
	}
	cells[min(width-1, int(mark*float64(width)))] = '│'
	return string(cells[:width])
}

// share is part of whole, from 0 to 1.
func share(part, whole time.Duration) float64 {
	if whole <= 0 {
		return 0
	}
	return max(0, min(1, float64(part)/float64(whole)))
}

// fit cuts text to a width.
func fit(text string, width int) string {
	r := []rune(text)
	return string(r[:min(len(r), max(0, width))])
}
