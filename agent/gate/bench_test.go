package gate

import (
	"container/heap"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkGate measures how a token gets in a gate's line and the next one is taken out, with others in
// line, beside a bare heap of as many instants.
func BenchmarkGate(b *testing.B) {
	for _, waiting := range []int{1, 100, 1_000, 10_000} {
		now := time.Now()
		b.Run(fmt.Sprintf("waiting=%d/by=credagent", waiting), func(b *testing.B) {
			var line line
			urgent := make([]atomic.Bool, waiting)
			for i := range waiting {
				line.push(Request{Ctx: b.Context(), Due: due(now, i), Urgent: &urgent[i]})
			}
			b.ReportAllocs()
			for i := waiting; b.Loop(); i++ {
				r := line.first().Request
				line.pop()
				r.Due = due(now, i)
				line.push(r)
			}
		})
		b.Run(fmt.Sprintf("waiting=%d/by=heap", waiting), func(b *testing.B) {
			var line instants
			for i := range waiting {
				heap.Push(&line, due(now, i))
			}
			b.ReportAllocs()
			for i := waiting; b.Loop(); i++ {
				heap.Pop(&line)
				heap.Push(&line, due(now, i))
			}
		})
	}
}

// due spreads tokens, the later ones later but for some shuffling.
func due(now time.Time, i int) time.Time {
	return now.Add(time.Duration(i+i*7919%101) * time.Second)
}

// instants is a heap.
type instants []time.Time

func (h instants) Len() int           { return len(h) }
func (h instants) Less(i, j int) bool { return h[i].Before(h[j]) }
func (h instants) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *instants) Push(x any)        { *h = append(*h, x.(time.Time)) }
func (h *instants) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
