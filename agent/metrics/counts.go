package metrics

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// counts are the counters of a metric, one for each outcome of everything that has a name. The client
// library keeps some six hundred bytes for each, which with a dozen for every token is more than
// all the rest that an agent knows of it.
type counts struct {
	family
	outcomes []string
	place    int // of the outcome among the labels

	mu   sync.RWMutex
	rows map[key][]atomic.Uint64 // guarded by mu: by outcome
}

// key is the values of a metric's labels but for the outcome. The second is "" where there is only one.
type key [2]string

// newCounts makes counters with the given labels, which are sorted, and the outcome among them.
func newCounts(name, help string, outcomes []string, labels ...string) *counts {
	place, _ := slices.BinarySearch(labels, "outcome")
	return &counts{
		family:   family{name: name, help: help, kind: counter, labels: slices.Insert(labels, place, "outcome")},
		outcomes: outcomes, place: place, rows: map[key][]atomic.Uint64{},
	}
}

// begin makes the counters of a name start at zero, so that a first failure is an increase that
// alerts can see.
func (c *counts) begin(k key) { c.row(k) }

func (c *counts) row(k key) []atomic.Uint64 {
	c.mu.RLock()
	row, known := c.rows[k]
	c.mu.RUnlock()
	if known {
		return row
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if row, known = c.rows[k]; !known {
		row = make([]atomic.Uint64, len(c.outcomes))
		c.rows[k] = row
	}
	return row
}

// add counts one.
func (c *counts) add(k key, outcome string) {
	c.row(k)[slices.Index(c.outcomes, outcome)].Add(1)
}

// forget takes the counters of a name away.
func (c *counts) forget(k key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rows, k)
}

// write shows the counters, in the order of their names. The lock is not held meanwhile: who reads may
// be slow, and who counts must not wait for that.
func (c *counts) write(e *exposition) {
	c.mu.RLock()
	rows := maps.Clone(c.rows)
	c.mu.RUnlock()
	out := e.begin(c.family)
	values := make([]string, 0, len(key{})+1)
	for _, k := range slices.SortedFunc(maps.Keys(rows), compareKeys) {
		values := append(append(append(values[:0], k[:c.place]...), ""), k[c.place:]...)
		row := rows[k]
		for i, outcome := range c.outcomes {
			values[c.place] = outcome
			out.add(float64(row[i].Load()), values...)
		}
	}
}

func compareKeys(a, b key) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) }
