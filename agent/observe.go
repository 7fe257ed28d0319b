package agent

import (
	"context"
	"iter"
	"sync"
)

// Updates tells of tokens, by their names, after anything about them changed: a new token, a failure, a
// changed configuration, an end. It begins with every token there is, so that nothing is missed before
// it. What changes several times while the loop is busy is told once. It ends with ctx:
//
//	for name := range a.Updates(ctx) {
//		t, err := a.Token(name)
//		…
//	}
func (a *Agent) Updates(ctx context.Context) iter.Seq[string] {
	return func(yield func(string) bool) {
		o := a.observers.add()
		defer a.observers.remove(o)
		for _, t := range a.parts.list().tokens {
			o.tell(t.name())
		}
		for {
			name, ok := o.next(ctx)
			if !ok || !yield(name) {
				return
			}
		}
	}
}

// observers are those who want to know which tokens changed.
type observers struct {
	mu  sync.Mutex
	all map[*observer]bool // guarded by mu
}

func (os *observers) add() *observer {
	os.mu.Lock()
	defer os.mu.Unlock()
	if os.all == nil {
		os.all = map[*observer]bool{}
	}
	o := &observer{waits: map[string]bool{}, wake: make(chan struct{}, 1)}
	os.all[o] = true
	return o
}

func (os *observers) remove(o *observer) {
	os.mu.Lock()
	defer os.mu.Unlock()
	delete(os.all, o)
}

func (os *observers) tell(name string) {
	os.mu.Lock()
	defer os.mu.Unlock()
	for o := range os.all {
		o.tell(name)
	}
}

// observer has the names that one reader has yet to get, each once. So a reader that does not come back
// costs no more than the names there are.
type observer struct {
	wake chan struct{}

	mu    sync.Mutex
	names []string        // guarded by mu, as is waits
	waits map[string]bool // those in names
}

func (o *observer) tell(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waits[name] {
		return
	}
	o.waits[name] = true
	o.names = append(o.names, name)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// next waits for a name until ctx ends.
func (o *observer) next(ctx context.Context) (name string, ok bool) {
	for ctx.Err() == nil {
		if name, ok := o.take(); ok {
			return name, true
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
		}
	}
	return "", false
}

func (o *observer) take() (name string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.names) == 0 {
		o.names = nil
		return "", false
	}
	name, o.names = o.names[0], o.names[1:]
	delete(o.waits, name)
	return name, true
}
