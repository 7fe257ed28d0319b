// Package fleet simulates many agents at one authorization server through an outage, to see what
// the server sees: requests a second, over time. It is deterministic: a seed always gives the same
// numbers.
//
// credagent's agents decide by package policy itself. Beside them run two other ways to keep a token
// fresh, as they are found in the field; they are models, not those programs.
package fleet

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

// The course of a simulation.
const (
	Agents   = 10_000
	Life     = time.Hour   // of every token
	Starting = time.Minute // in which all agents start
	Begins   = 3 * time.Hour
	Ends     = 4 * time.Hour // of the outage
	Length   = 8 * time.Hour
	Bin      = 10 * time.Second // of the counts
)

// Answer is how a request ended.
type Answer struct {
	Granted bool
	Wait    time.Duration // that the server asked for; 0 where it said nothing
}

// Agent decides when one token is requested. It gets the result of each request.
type Agent interface {
	// Answered returns when the next request is due, after one that was sent and answered now.
	Answered(now time.Time, answer Answer) time.Time
}

// Course is what the server does in the outage.
type Course struct {
	Name string
	// Dated has it name the outage's end to everybody, as a Retry-After with a date does; else it says nothing.
	Dated bool
}

// Courses returns those that are played.
func Courses() []Course {
	return []Course{{Name: "it says nothing"}, {Name: "it names the end to everybody", Dated: true}}
}

// answer is what the server says so long after the start.
func (c Course) answer(since time.Duration) Answer {
	switch {
	case since < Begins || since >= Ends:
		return Answer{Granted: true}
	case c.Dated:
		return Answer{Wait: (Ends - since + time.Second - 1).Truncate(time.Second)} // whole seconds, rounded up, as credagent reads them
	}
	return Answer{}
}

// Model is a way to keep a token fresh.
type Model struct {
	Name string
	New  func(r *rand.Rand) Agent
}

// Models returns credagent and what it is compared with.
func Models() []Model {
	return []Model{
		{"credagent", func(r *rand.Rand) Agent { return &careful{random: r} }},
		{"refresh at 70 % of the life, retries doubling to 5 minutes", func(r *rand.Rand) Agent { return &doubling{random: r} }},
		{"refresh at 90 % of the life, a retry every 10 seconds", func(*rand.Rand) Agent { return fixed{} }},
	}
}

// careful is credagent: package policy, as the daemon uses it for a client of one token.
type careful struct {
	random   *rand.Rand
	gate     policy.Gate
	attempts policy.Attempts
}

// Answered implements [Agent].
func (c *careful) Answered(now time.Time, answer Answer) time.Time {
	outcome := policy.Outcome{Class: policy.Success}
	if !answer.Granted {
		outcome = policy.Outcome{Class: policy.Transient, ClientWide: true, HasRetryAfter: answer.Wait > 0, RetryAfter: answer.Wait}
	}
	c.gate = c.gate.Sent(now).Answered(now, outcome, c.random.Float64())
	c.attempts = c.attempts.Sent(now).Answered(now, outcome, c.random.Float64())
	next := c.attempts.ReadyAt()
	if opens := c.gate.OpensAt(); opens.After(next) {
		next = opens
	}
	if refresh := policy.RefreshAt(now, now.Add(Life), 0, 0.5, c.random.Float64()); answer.Granted && refresh.After(next) {
		next = refresh
	}
	return next
}

// doubling is a client that listens to no Retry-After and whose refreshes fall into a narrow window of the life.
type doubling struct {
	random *rand.Rand
	wait   time.Duration
}

// Answered implements [Agent].
func (d *doubling) Answered(now time.Time, answer Answer) time.Time {
	if answer.Granted {
		d.wait = 0
		return now.Add(time.Duration(float64(Life) * (0.70 + 0.033*d.random.Float64())))
	}
	d.wait = min(max(2*d.wait, time.Second), 5*time.Minute)
	return now.Add(time.Duration(float64(d.wait) * (0.75 + 0.25*d.random.Float64())))
}

// fixed is a hand-written loop.
type fixed struct{}

// Answered implements [Agent].
func (fixed) Answered(now time.Time, answer Answer) time.Time {
	if answer.Granted {
		return now.Add(Life * 9 / 10)
	}
	return now.Add(10 * time.Second)
}

// Result is what the server saw of one model.
type Result struct {
	Name      string
	Rates     []float64 // requests a second, for each Bin
	Seconds   []int     // requests in each second
	Requests  int
	Expired   time.Duration // for how long agents had no good token, all of them together
	Recovered time.Duration // when the last agent that met the outage had a new token
}

// Run plays a course with one model.
func Run(m Model, course Course, seed uint64) Result {
	r := rand.New(rand.NewPCG(seed, 1))
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	result := Result{Name: m.Name, Rates: make([]float64, Length/Bin), Seconds: make([]int, Length/time.Second)}
	var line queue
	for range Agents {
		line = append(line, &ask{at: start.Add(time.Duration(r.Float64() * float64(Starting))), agent: m.New(r)})
	}
	heap.Init(&line)
	for line[0].at.Before(start.Add(Length)) {
		next := line[0]
		since := next.at.Sub(start)
		answer := course.answer(since)
		result.Requests++
		result.Rates[since/Bin] += 1 / Bin.Seconds()
		result.Seconds[since/time.Second]++
		if answer.Granted {
			if next.refused {
				result.Recovered = since
			}
			if !next.good.IsZero() && next.at.After(next.good) {
				result.Expired += next.at.Sub(next.good)
			}
			next.good = next.at.Add(Life)
		}
		next.refused = !answer.Granted
		next.at = next.agent.Answered(next.at, answer)
		heap.Fix(&line, 0)
	}
	return result
}

// Mean is the mean rate from one moment of the course up to another.
func (r Result) Mean(from, to time.Duration) float64 {
	sum := 0.0
	bins := r.Rates[from/Bin : to/Bin]
	for _, rate := range bins {
		sum += rate
	}
	return sum / float64(len(bins))
}

// Peak is the highest rate from one moment of the course up to another.
func (r Result) Peak(from, to time.Duration) float64 {
	peak := 0.0
	for _, rate := range r.Rates[from/Bin : to/Bin] {
		peak = max(peak, rate)
	}
	return peak
}

// Recovery is what the server sees from the end of the outage until the last agent that met it has a token:
// the mean of its requests in a second and the most in one.
func (r Result) Recovery() (mean float64, most int) {
	seconds := r.Seconds[Ends/time.Second : r.Recovered/time.Second+1]
	sum := 0
	for _, n := range seconds {
		sum += n
		most = max(most, n)
	}
	return float64(sum) / float64(len(seconds)), most
}

// ask is an agent's next request.
type ask struct {
	at      time.Time
	agent   Agent
	good    time.Time // until when it has a good token
	refused bool      // its last request was
}

// queue is a heap of requests, the next one first.
type queue []*ask

// Len implements [heap.Interface].
func (q queue) Len() int { return len(q) }

// Less implements [heap.Interface].
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

// Swap implements [heap.Interface].
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements [heap.Interface].
func (q *queue) Push(x any) { *q = append(*q, x.(*ask)) }

// Pop implements [heap.Interface].
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
