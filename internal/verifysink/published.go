package verifysink

import (
	"sync"
	"time"
)

// remembered is the number of writes whose completion times are kept.
const remembered = 1 << 14

// published records the completed writes: a reader that opens the file later has to see them.
type published struct {
	mu     sync.Mutex
	newest int
	at     [remembered]time.Time
}

func (p *published) done(number int, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newest = number
	p.at[number%remembered] = at
}

func (p *published) last() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest
}

// behind returns how long the next write had been complete when a reader opened the file and still saw this one.
func (p *published) behind(number int, opened time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := max(number+1, p.newest-remembered+1)
	return opened.Sub(p.at[next%remembered])
}
