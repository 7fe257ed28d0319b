//go:build !linux

package clockwatch

// Watch reports when the wall clock jumps; this system does not support it.
type Watch struct{}

// New returns [ErrNotTold].
func New() (*Watch, error) { return nil, ErrNotTold }

// Jumps never receives a value.
func (*Watch) Jumps() <-chan struct{} { return nil }

// Close ends the watch.
func (*Watch) Close() error { return nil }
