package metrics

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// counts are the counters of a metric, one for each outcome and name. The client library needs about six hundred
// bytes for each; with a dozen for every token that is more than all else that an agent keeps about it.
type counts struct {
	family
	outcomes []string
	place    int // index of the outcome among the labels

	mu   sync.RWMutex
	rows map[key][]atomic.Uint64 // guarded by mu: by outcome
}

// key has the values of a metric's labels except the outcome. The second is "" if there is only one.
type key [2]string

// newCounts creates counters with the given labels, which are sorted and include the outcome.
func newCounts(name, help string, outcomes []string, labels ...string) *counts {
	place, _ := slices.BinarySearch(labels, "outcome")
	return &counts{
		family:   family{name: name, help: help, kind: counter, labels: slices.Insert(labels, place, "outcome")},
		outcomes: outcomes, place: place, rows: map[key][]atomic.Uint64{},
	}
}

// begin starts the counters of a name at zero, so that alerts can see a first failure as an increase.
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

// add increments a counter.
func (c *counts) add(k key, outcome string) {
	c.row(k)[slices.Index(c.outcomes, outcome)].Add(1)
}

// forget removes the counters of a name.
func (c *counts) forget(k key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rows, k)
}

// forgetIf takes the counters of all names away that match.
func (c *counts) forgetIf(matches func(key) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.rows, func(k key, _ []atomic.Uint64) bool { return matches(k) })
}

// write writes the counters in the order of their names. It does not hold the lock meanwhile: the reader may be slow,
// and counting must not wait for it.
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
