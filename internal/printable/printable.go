// Package printable makes untrusted text safe to display.
package printable

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns text as one line of printable characters and spaces, cut off after limit bytes.
func Text(text string, limit int) string {
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return Line(text)
}

// Line is [Text] without a limit.
func Line(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}
