package gate

import (
	"container/heap"
	"slices"
)

// line is who waits for a request at a gate. The next one is found in a time that hardly grows with
// how many there are: an urgent one, of several the one that came first; else the one of the token
// that is due longest. They need not have come in that order: after a start all come at once, and
// where starts follow each other fast, a token could else have bad luck until it expires.
type line struct {
	waiting waiting // a heap
	came    uint64  // how many have come, ever
	full    int     // how many there may be before those that nobody waits for are looked for
}

// place is where a request stands in line.
type place struct {
	Request
	urgent bool // it was urgent when that was last looked at
	number uint64
}

// leave reports whether nobody waits for the answer any more.
func (p *place) leave() bool { return p.Ctx.Err() != nil }

// push puts a request in line. What nobody waits for any more is not kept for long behind the others,
// however long the gate is closed.
func (l *line) push(r Request) {
	if len(l.waiting) >= l.full {
		l.waiting = slices.DeleteFunc(l.waiting, (*place).leave)
		heap.Init(&l.waiting)
		l.full = 2*len(l.waiting) + 16
	}
	l.came++
	heap.Push(&l.waiting, &place{Request: r, urgent: r.isUrgent(), number: l.came})
}

// first returns the next request that somebody still waits for; nil when there is none.
func (l *line) first() *place {
	for len(l.waiting) > 0 && l.waiting[0].leave() {
		heap.Pop(&l.waiting)
	}
	if len(l.waiting) == 0 {
		*l = line{came: l.came}
		return nil
	}
	return l.waiting[0]
}

// pop takes the first request out of the line.
func (l *line) pop() { heap.Pop(&l.waiting) }

// sort looks anew at which requests are urgent.
func (l *line) sort() {
	for _, p := range l.waiting {
		p.urgent = p.isUrgent()
	}
	heap.Init(&l.waiting)
}

// waiting implements [heap.Interface].
type waiting []*place

func (w waiting) Len() int { return len(w) }

func (w waiting) Less(i, j int) bool {
	a, b := w[i], w[j]
	switch {
	case a.urgent != b.urgent:
		return a.urgent
	case a.urgent || a.Due.Equal(b.Due):
		return a.number < b.number
	}
	return a.Due.Before(b.Due)
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
