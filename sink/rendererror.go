package sink

import "fmt"

// RenderError says that a file cannot hold the tokens there are. Trying again does not help before
// another token is there.
type RenderError struct {
	Path string
	Err  error
}

// Error implements error.
func (e *RenderError) Error() string { return fmt.Sprintf("rendering %q: %v", e.Path, e.Err) }

// Unwrap lets callers branch on the cause.
func (e *RenderError) Unwrap() error { return e.Err }
