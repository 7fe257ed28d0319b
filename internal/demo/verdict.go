package demo

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

// facts are the observations of the server, the reader and a check of the files.
type facts struct {
	requests []devserver.Request
	early    int // requests before a Retry-After was over
	reading  reading
	writes   map[string]int // by sink
	sinks    []sinkFact
	rotated  string // the SHA-256 of the new certificate; "" when there was none
}

// outcome is the result of a check.
type outcome int

const (
	missing outcome = iota // it was not reached
	shown
	broken
)

// check is one thing that the demo shows.
type check struct {
	name    string
	outcome outcome
	detail  string
}

// judge checks for everything that the demo shows.
func judge(f facts) []check {
	return []check{
		f.sent(), f.refreshed(), f.rewritten(), f.read(), f.throttling(), f.outage(), f.rotation(),
	}
}

// verdict returns nil if everything was shown, except what an early end left no time for.
func verdict(checks []check, early bool) error {
	var wrong []string
	for _, c := range checks {
		if c.outcome == broken || c.outcome == missing && !early {
			wrong = append(wrong, c.name)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("running the demo: it did not show: %s\n    hint: its tokens live for %s; on a machine too busy for that, try again later",
		strings.Join(wrong, ", "), tokenLife)
}

// decide returns a check from whether something happened, and whether something spoilt it.
func decide(name, detail string, happened, spoilt bool) check {
	switch {
	case spoilt:
		return check{name, broken, detail}
	case happened:
		return check{name, shown, detail}
	}
	return check{name, missing, detail}
}

// sent counts the requests. A refusal without a fault in the script is a failure.
func (f facts) sent() check {
	var issued, met, refused int
	for _, r := range f.requests {
		switch {
		case isIssued(r):
			issued++
		case r.Fault != "":
			met++
		default:
			refused++
		}
	}
	detail := fmt.Sprintf("%d sent, %d brought a token, %d met an injected fault, %d refused", len(f.requests), issued, met, refused)
	return decide("token requests", detail, issued > 0, refused > 0)
}

func (f facts) refreshed() check {
	happened := true
	var details []string
	for _, t := range []struct{ name, client string }{{certToken, certClient}, {secretToken, secretClient}} {
		refreshes := max(0, f.issuedTo(t.client)-1)
		happened = happened && refreshes > 0
		details = append(details, fmt.Sprintf("%s %s", t.name, times(refreshes)))
	}
	return decide("tokens refreshed", strings.Join(details, ", "), happened, false)
}

func (f facts) issuedTo(client string) int {
	n := 0
	for _, r := range f.requests {
		if r.Client == client && isIssued(r) {
			n++
		}
	}
	return n
}

func (f facts) rewritten() check {
	happened, spoilt := len(f.sinks) > 0, false
	var details []string
	for _, sink := range f.sinks {
		writes := f.writes[sink.name]
		happened = happened && writes > 1
		details = append(details, fmt.Sprintf("%s %s", sink.name, times(writes)))
		if sink.err != nil && writes > 0 {
			spoilt = true
			details = append(details, "then: "+sink.err.Error())
		}
	}
	return decide("files written", strings.Join(details, ", "), happened, spoilt)
}

func (f facts) read() check {
	r := f.reading
	detail := fmt.Sprintf("%s %s, tokens seen: %d, bad reads: %d", rawSink, times(r.reads), r.tokens, r.bad)
	if r.bad > 0 {
		detail += ": " + r.firstBad
	}
	return decide("file read", detail, r.tokens > 1, r.bad > 0)
}

// throttling looks for the answer with Retry-After and for the request after it.
func (f facts) throttling() check {
	const name = "throttling honoured"
	answered, next := f.after(http.StatusTooManyRequests, certClient)
	spoilt := f.early > 0
	if answered == nil || next == nil {
		return decide(name, fmt.Sprintf("not seen, %d early requests", f.early), false, spoilt)
	}
	waited := next.At.Sub(answered.At)
	detail := fmt.Sprintf("asked to wait %ss, waited %.1fs, %d early requests", answered.RetryAfter, waited.Seconds(), f.early)
	return decide(name, detail, isIssued(*next), spoilt || waited < retryAfter)
}

// outage looks for the failed answers and for the requests after them.
func (f facts) outage() check {
	const name = "outage survived"
	survived := true
	var details []string
	for _, client := range []string{certClient, secretClient} {
		answered, next := f.after(http.StatusServiceUnavailable, client)
		if answered == nil || next == nil {
			continue
		}
		survived = survived && isIssued(*next)
		details = append(details, fmt.Sprintf("client %s had 503, %s %s later", client, what(*next), seconds(next.At.Sub(answered.At))))
	}
	if details == nil {
		return check{name, missing, "not seen"}
	}
	return decide(name, strings.Join(details, ", "), survived, false)
}

func what(r devserver.Request) string {
	if isIssued(r) {
		return "a token"
	}
	return r.Outcome
}

// after returns the client's first request with a status and the client's next one.
func (f facts) after(status int, client string) (answered, next *devserver.Request) {
	for i, r := range f.requests {
		switch {
		case r.Client != client:
		case answered != nil:
			return answered, &f.requests[i]
		case r.Status == status:
			answered = &f.requests[i]
		}
	}
	return answered, nil
}

// rotation looks for the first token that the new certificate brought.
func (f facts) rotation() check {
	const name = "certificate rotated"
	for _, r := range f.requests {
		if f.rotated != "" && r.KeyID == f.rotated && isIssued(r) {
			first := f.requests[0]
			for _, q := range f.requests {
				if q.Client == certClient {
					first = q
					break
				}
			}
			detail := fmt.Sprintf("certificate %s at first, %s now, without a refused request", short(first.KeyID), short(r.KeyID))
			return decide(name, detail, first.KeyID != r.KeyID, false)
		}
	}
	return check{name, missing, "not seen"}
}

// short returns enough of a public fingerprint to distinguish two.
func short(fingerprint string) string { return fingerprint[:min(6, len(fingerprint))] + "…" }

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
