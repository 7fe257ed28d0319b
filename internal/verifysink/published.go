package verifysink

import (
	"sync"
	"time"
)

// remembered is for how many writes it is known when they were done; of an older one it is known that
// it is older.
const remembered = 1 << 14

// published is which writes are done: whoever opens the file later has to see them.
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

// behind is for how long a reader that saw this write, and not the next one, could have seen that one.
func (p *published) behind(number int, opened time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := max(number+1, p.newest-remembered+1)
	return opened.Sub(p.at[next%remembered])
}
