// Package pattern has regular expressions that are compiled when they are first used. Compiled with
// the package they stand in, they would be paid for by every process that is started, a credential
// provider's too, which uses none.
package pattern

import (
	"regexp"
	"sync"
)

// Pattern is a regular expression in the syntax of package regexp. It is safe for concurrent use.
type Pattern struct {
	text    string
	compile func() *regexp.Regexp
}

// New returns the pattern. One that does not compile panics at its first use.
func New(text string) Pattern {
	return Pattern{text, sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
}

// String returns the pattern's source.
func (p Pattern) String() string { return p.text }

// MatchString reports whether s matches.
func (p Pattern) MatchString(s string) bool { return p.compile().MatchString(s) }

// Match reports whether b matches.
func (p Pattern) Match(b []byte) bool { return p.compile().Match(b) }

// FindStringSubmatch returns the leftmost match and its groups; nil if there is none.
func (p Pattern) FindStringSubmatch(s string) []string { return p.compile().FindStringSubmatch(s) }
