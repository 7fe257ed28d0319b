package sink

import "fmt"

// RenderError means that a file cannot hold the current tokens. Retrying does not help until there is another token.
type RenderError struct {
	Path string
	Err  error
}

// Error implements error.
func (e *RenderError) Error() string { return fmt.Sprintf("rendering %q: %v", e.Path, e.Err) }

// Unwrap lets callers branch on the cause.
func (e *RenderError) Unwrap() error { return e.Err }
