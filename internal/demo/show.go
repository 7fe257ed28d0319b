package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Screen is a terminal to draw on.
type Screen struct {
	Color bool
	Size  func() (width, height int) // asked before every drawing
}

// The control sequences of ECMA-48 that every terminal knows.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	eraseBelow = "\x1b[J"
	reset      = "\x1b[0m"
	red        = "\x1b[31m"
	green      = "\x1b[32m"
	yellow     = "\x1b[33m"
	dim        = "\x1b[2m"
)

// show writes what the user sees: permanent lines and, on a screen, a picture below them that is redrawn.
type show struct {
	out    io.Writer
	screen *Screen
	gone   func() // called when writing to out fails

	mu      sync.Mutex
	picture string // guarded by mu: what is drawn below the lines
	widths  []int  // guarded by mu: of its lines
}

func newShow(out io.Writer, screen *Screen) *show {
	return &show{out: out, screen: screen, gone: func() {}}
}

// print shows text that ends in a newline, above the picture.
func (v *show) print(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.write(v.erase() + text + v.picture)
}

// write writes everything at once, so that a screen does not flicker.
func (v *show) write(text string) {
	if _, err := io.WriteString(v.out, text); err != nil {
		v.gone()
	}
}

// say shows an event.
func (v *show) say(who, text string) {
	stamp := time.Now().Format(time.TimeOnly)
	v.print(fmt.Sprintf("%s  %-6s  %s\n", v.paint(dim, stamp), who, text))
}

// draw replaces the picture.
func (v *show) draw(f frame) {
	width, height := v.screen.Size()
	lines := f.lines(width - 1) // a line as wide as the screen would wrap on some terminals
	lines = lines[:min(len(lines), max(0, height-1))]
	v.mu.Lock()
	defer v.mu.Unlock()
	before := v.erase()
	if v.picture == "" {
		before = hideCursor
	}
	var picture strings.Builder
	v.widths = v.widths[:0]
	for _, l := range lines {
		picture.WriteString(v.paintPart(l) + "\n")
		v.widths = append(v.widths, utf8.RuneCountInString(l.text))
	}
	v.picture = picture.String()
	v.write(before + v.picture)
}

// erase returns the sequence that removes the picture. The cursor is below it. A terminal that became narrower has
// wrapped the lines of the picture.
func (v *show) erase() string {
	if len(v.widths) == 0 {
		return ""
	}
	width, _ := v.screen.Size()
	rows := 0
	for _, w := range v.widths {
		rows += max(1, (w+width-1)/width)
	}
	return fmt.Sprintf("\r\x1b[%dA%s", rows, eraseBelow)
}

// close removes the picture and restores the cursor.
func (v *show) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.picture == "" {
		return
	}
	v.write(v.erase() + showCursor)
	v.picture, v.widths = "", nil
}

// summary shows the checks.
func (v *show) summary(checks []check, early bool) {
	var text strings.Builder
	text.WriteString("\nWhat was seen:\n\n")
	if early {
		text.Reset()
		text.WriteString("\nStopped early. What was seen until then:\n\n")
	}
	for _, c := range checks {
		fmt.Fprintf(&text, "  %s  %-19s  %s\n", v.mark(c.outcome, early), c.name, c.detail)
	}
	text.WriteString("\n")
	v.print(text.String())
}

// mark returns the first word of a check, six columns wide.
func (v *show) mark(o outcome, early bool) string {
	switch {
	case o == shown:
		return v.paint(green, "ok    ")
	case o == missing && early:
		return v.paint(dim, "-     ")
	}
	return v.paint(red, "FAILED")
}

func (v *show) paint(color, text string) string {
	if v.screen == nil || !v.screen.Color || text == "" {
		return text
	}
	return color + text + reset
}

func (v *show) paintPart(l line) string {
	r := []rune(l.text)
	from, to := min(l.from, len(r)), min(l.to, len(r))
	return string(r[:from]) + v.paint(l.color, string(r[from:to])) + string(r[to:])
}
