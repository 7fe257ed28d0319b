// Package secret has the one type that credagent uses for values that must never be shown.
//
// A [Value] redacts itself however it is printed, logged or marshalled; [Value.Reveal] is the only way to its
// content, so a search for that name finds every place where a secret is used.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a [Value] shows instead of its content.
const Redacted = "[redacted]"

// Value is a string that cannot be printed or marshalled by accident. The zero value is empty.
// Two values compare with ==.
type Value struct {
	content string
}

// New wraps content.
func New(content string) Value { return Value{content: content} }

// Reveal returns the content.
func (v Value) Reveal() string { return v.content }

// IsZero reports whether the value is empty.
func (v Value) IsZero() bool { return v.content == "" }

// String implements [fmt.Stringer].
func (v Value) String() string { return Redacted }

// GoString implements [fmt.GoStringer].
func (v Value) GoString() string { return Redacted }

// Format implements [fmt.Formatter], so that no verb reaches the content.
func (v Value) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, Redacted) }

// LogValue implements [slog.LogValuer].
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements [encoding.TextMarshaler]; JSON, YAML and flags all go through it.
func (v Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
