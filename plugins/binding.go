package plugins

import (
	"bufio"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/credagent/credagent/internal/handshake"
)

// announceTime is how long a request waits for its destination to arrive on the pipe, where the agent sends it before
// the request.
const announceTime = 2 * time.Second

// binding is the list of destinations that this process may send requests to, as received from the agent over the
// pipe. A nil binding allows everything: no agent limits the process.
type binding struct {
	mu          sync.Mutex
	origins     []string        // guarded by mu, as are the others; the first ones received, up to the bound
	connections map[string]bool // of package handshake
	changed     chan struct{}   // closed and replaced when something is received
}

func newBinding() *binding {
	return &binding{connections: map[string]bool{}, changed: make(chan struct{})}
}

// follow reads the pipe until it ends or its content is invalid.
func (b *binding) follow(pipe *bufio.Reader) {
	for {
		d, err := handshake.ReceiveDestination(pipe)
		if err != nil {
			return
		}
		b.learn(d)
	}
}

func (b *binding) learn(d handshake.Destination) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.origins == nil {
		b.origins = d.Origins
	}
	if slices.Equal(b.origins, d.Origins) {
		b.connections[d.Connection] = true
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// check refuses a request to a server, or over a connection, that this process was not started for.
func (b *binding) check(ctx context.Context, endpoint, connection string) error {
	if b == nil {
		return nil
	}
	origin, err := handshake.Origin(endpoint)
	if err != nil {
		return errors.New("the token endpoint is not a URL")
	}
	ctx, cancel := context.WithTimeout(ctx, announceTime)
	defer cancel()
	for {
		b.mu.Lock()
		allowed := slices.Contains(b.origins, origin) && b.connections[connection]
		changed := b.changed
		b.mu.Unlock()
		if allowed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.New("the provider's process is bound to another server or connection and sent nothing")
		}
	}
}
