package agent

import (
	"container/heap"
	"slices"
)

// line is who waits for a request at a gate. The next one is found in a time that hardly grows with
// how many there are: an urgent one, of several the one that came first; else the one of the token
// that is due longest. They need not have come in that order: after a start all come at once, and
// where starts follow each other fast, a token could else have bad luck until it expires.
type line struct {
	asks waiting // a heap
	came uint64  // how many have come, ever
	full int     // how many there may be before those that nobody waits for are looked for
}

// place is where an ask stands in line.
type place struct {
	ask
	hurry  bool // it was urgent when that was last looked at
	number uint64
}

// leave reports whether nobody waits for the answer any more.
func (p *place) leave() bool { return p.ctx.Err() != nil }

// push puts an ask in line. What nobody waits for any more is not kept for long behind the others,
// however long the gate is closed.
func (l *line) push(a ask) {
	if len(l.asks) >= l.full {
		l.asks = slices.DeleteFunc(l.asks, (*place).leave)
		heap.Init(&l.asks)
		l.full = 2*len(l.asks) + 16
	}
	l.came++
	heap.Push(&l.asks, &place{ask: a, hurry: a.isUrgent(), number: l.came})
}

// first returns the next ask that somebody still waits for; nil when there is none.
func (l *line) first() *place {
	for len(l.asks) > 0 && l.asks[0].leave() {
		heap.Pop(&l.asks)
	}
	if len(l.asks) == 0 {
		*l = line{came: l.came}
		return nil
	}
	return l.asks[0]
}

// pop takes the first ask out of the line.
func (l *line) pop() { heap.Pop(&l.asks) }

// sort looks anew at which asks are urgent.
func (l *line) sort() {
	for _, p := range l.asks {
		p.hurry = p.isUrgent()
	}
	heap.Init(&l.asks)
}

// waiting implements [heap.Interface].
type waiting []*place

func (w waiting) Len() int { return len(w) }

func (w waiting) Less(i, j int) bool {
	a, b := w[i], w[j]
	switch {
	case a.hurry != b.hurry:
		return a.hurry
	case a.hurry || a.due.Equal(b.due):
		return a.number < b.number
	}
	return a.due.Before(b.due)
}

func (w waiting) Swap(i, j int) { w[i], w[j] = w[j], w[i] }

func (w *waiting) Push(x any) { *w = append(*w, x.(*place)) }

func (w *waiting) Pop() any {
	end := len(*w) - 1
	last := (*w)[end]
	(*w)[end] = nil
	*w = (*w)[:end]
	return last
}
