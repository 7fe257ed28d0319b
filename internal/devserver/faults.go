package devserver

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Kind is what goes wrong with a token request.
type Kind string

// The kinds of faults; [Faults] explains them.
const (
	OK           Kind = "ok"
	Throttle     Kind = "throttle"
	ThrottleDate Kind = "throttle_date"
	Outage       Kind = "outage"
	Refuse       Kind = "refuse"
	Redirect     Kind = "redirect"
	Stall        Kind = "stall"
	Slow         Kind = "slow"
	Drip         Kind = "drip"
	Reset        Kind = "reset"
	Cut          Kind = "cut"
	Truncate     Kind = "truncate"
	Garbage      Kind = "garbage"
	Empty        Kind = "empty"
	Huge         Kind = "huge"
	Body         Kind = "body"
	NoExpiresIn  Kind = "no_expires_in"
	ExpiresIn    Kind = "expires_in"
	RefreshIn    Kind = "refresh_in"
	TokenType    Kind = "token_type"
	Short        Kind = "short"
	Signals      Kind = "signal"
)

// Fault is one thing that goes wrong with token requests. A field that its Kind does not use is ignored; a zero field
// that it needs gets the default of [ParseFault] for a fault without ARG.
type Fault struct {
	Kind       Kind
	Count      int           // how many token requests it affects; 0 is all until Server.Clear
	Client     string        // the only client it affects; "" is every one
	Status     int           // of Throttle, Outage, Refuse, Redirect, Body
	RetryAfter string        // the Retry-After header, verbatim, of the answers that Status is for; "" sends none
	Delay      time.Duration // of Slow, between the bytes of Drip, until the date of ThrottleDate, the life of Short
	Size       int64         // of Huge, in bytes
	Error      string        // of Refuse: the OAuth error code
	AADSTS     int           // of Refuse: Entra's number; 0 is the usual one for Error
	Location   string        // of Redirect; "" is another token endpoint of the same server
	Body       string        // of Body; the value of ExpiresIn, RefreshIn (JSON) and TokenType; the event of Signals
}

// FaultHelp explains one fault for --help.
type FaultHelp struct {
	Name string
	Arg  string // how ARG is written; "" for a fault that takes none
	Help string
}

// faultKind describes a kind of fault, except its behaviour.
type faultKind struct {
	kind      Kind
	argument  argument
	implied   string // the ARG of a fault without one
	minStatus int    // the statuses it may have; none when 0
	maxStatus int
	help      string
}

// faultKinds is never changed.
var faultKinds = []faultKind{
	{kind: OK, help: "answer as usual: lets COUNT requests through before the next fault"},
	{kind: Throttle, argument: retryAfterArg, implied: "5", minStatus: 400, maxStatus: 599, help: "answer 429 with Retry-After: SECONDS (or any other text; none leaves it out)"},
	{kind: ThrottleDate, argument: delayArg, implied: "5s", minStatus: 400, maxStatus: 599, help: "answer 429 with Retry-After as an HTTP date so far ahead"},
	{kind: Outage, argument: outageArg, implied: "503", minStatus: 500, maxStatus: 599, help: "answer 503 or another 5xx with a gateway's HTML page"},
	{kind: Refuse, argument: refuseArg, implied: "invalid_client", minStatus: 400, maxStatus: 599, help: "answer with an OAuth error"},
	{kind: Redirect, argument: redirectArg, implied: "302", minStatus: 300, maxStatus: 399, help: "answer 302 or another 3xx to URL, else to another token endpoint"},
	{kind: Stall, help: "take the request and never answer"},
	{kind: Slow, argument: delayArg, implied: "2s", help: "answer so much later"},
	{kind: Drip, argument: delayArg, implied: "100ms", help: "answer one byte at a time, so far apart"},
	{kind: Reset, help: "reset the connection without an answer"},
	{kind: Cut, help: "close the connection in the middle of the headers"},
	{kind: Truncate, help: "close the connection in the middle of the body"},
	{kind: Garbage, help: "answer 200 with an HTML page"},
	{kind: Empty, help: "answer 200 with no body"},
	{kind: Huge, argument: sizeArg, implied: "2147483648", help: "answer 200 with a body of so many bytes"},
	{kind: Body, argument: textArg, implied: "{}", minStatus: 200, maxStatus: 599, help: "answer 200 with TEXT for a JSON body"},
	{kind: NoExpiresIn, help: "leave expires_in out"},
	{kind: ExpiresIn, argument: expiresInArg, implied: "string", help: "send another expires_in: string, negative, huge, garbage, or JSON"},
	{kind: RefreshIn, argument: jsonArg, implied: "10", help: "send this refresh_in"},
	{kind: TokenType, argument: textArg, implied: "mac", help: "send another token_type"},
	{kind: Short, argument: delayArg, implied: "2s", help: "issue a token that lives so long"},
	{kind: Signals, argument: eventArg, implied: "session-revoked", help: "answer as usual, and send this Shared Signals event about the client"},
}

// Faults explains every fault that [ParseFault] knows.
func Faults() []FaultHelp {
	var all []FaultHelp
	for _, k := range faultKinds {
		all = append(all, FaultHelp{Name: string(k.kind), Arg: k.argument.syntax, Help: k.help})
	}
	return all
}

func lookUp(kind Kind) (faultKind, bool) {
	i := slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.kind == kind })
	if i < 0 {
		return faultKind{}, false
	}
	return faultKinds[i], true
}

// ParseFault reads NAME[=ARG][*COUNT]: throttle=7*2, outage*3, slow=2s. Without COUNT, or with
// *0, a fault lasts until it is cleared.
func ParseFault(text string) (Fault, error) {
	rest, count, err := cutCount(text)
	if err != nil {
		return Fault{}, fmt.Errorf("reading fault %q: %w", text, err)
	}
	name, arg, given := strings.Cut(rest, "=")
	kind, ok := lookUp(Kind(name))
	if !ok {
		return Fault{}, fmt.Errorf("reading fault %q: there is no fault %q, only %s", text, name, faultNames())
	}
	if !given {
		arg = kind.implied
	}
	fault := Fault{Kind: kind.kind, Count: count}
	if err := kind.argument.read(&fault, arg, given); err != nil {
		return Fault{}, fmt.Errorf("reading fault %q: %w", text, err)
	}
	if err := kind.check(fault); err != nil {
		return Fault{}, fmt.Errorf("reading fault %q: %w", text, err)
	}
	return fault, nil
}

func faultNames() string {
	var names []string
	for _, k := range faultKinds {
		names = append(names, string(k.kind))
	}
	return strings.Join(names, ", ")
}

// cutCount splits off *COUNT. A star that is not followed by a number belongs to the argument.
func cutCount(text string) (rest string, count int, err error) {
	if !endsInCount(text) {
		return text, 0, nil
	}
	star := strings.LastIndexByte(text, '*')
	count, err = strconv.Atoi(text[star+1:])
	if err != nil {
		return "", 0, fmt.Errorf("the count %s is too large", text[star+1:])
	}
	return text[:star], count, nil
}

func isNumber(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// String returns the fault in the syntax of [ParseFault]; "" for the zero Fault.
func (f Fault) String() string {
	kind, _ := lookUp(f.Kind)
	text := string(f.Kind)
	if kind.argument.write != nil {
		text += "=" + kind.argument.write(f)
	}
	if f.Count > 0 || endsInCount(text) {
		text += "*" + strconv.Itoa(f.Count)
	}
	return text
}

// endsInCount reports whether a text looks as if it ended in a count.
func endsInCount(text string) bool {
	star := strings.LastIndexByte(text, '*')
	return star >= 0 && isNumber(text[star+1:])
}

func (k faultKind) check(f Fault) error {
	switch {
	case f.Count < 0:
		return fmt.Errorf("the count %d is negative", f.Count)
	case f.Delay < 0:
		return fmt.Errorf("the delay %s is negative", f.Delay)
	case f.Size < 0:
		return fmt.Errorf("the size %d is negative", f.Size)
	case k.minStatus > 0 && (f.status() < k.minStatus || f.status() > k.maxStatus):
		return fmt.Errorf("the status %d is not one from %d to %d", f.status(), k.minStatus, k.maxStatus)
	}
	return nil
}

// complete fills in the missing fields that a fault needs.
func (f Fault) complete() (Fault, error) {
	kind, ok := lookUp(f.Kind)
	if !ok {
		return f, fmt.Errorf("injecting fault %q: there is no such fault, only %s", f.Kind, faultNames())
	}
	var usual Fault
	if err := kind.argument.read(&usual, kind.implied, false); err != nil {
		return f, fmt.Errorf("injecting fault %q: %w", f.Kind, err)
	}
	f.Status = cmp.Or(f.Status, usual.Status)
	f.Delay = cmp.Or(f.Delay, usual.Delay)
	f.Size = cmp.Or(f.Size, usual.Size)
	f.Error = cmp.Or(f.Error, usual.Error)
	f.Body = cmp.Or(f.Body, usual.Body)
	if err := kind.check(f); err != nil {
		return f, fmt.Errorf("injecting fault %q: %w", f.Kind, err)
	}
	if err := kind.argument.checkValue(f); err != nil {
		return f, fmt.Errorf("injecting fault %q: %w", f.Kind, err)
	}
	return f, nil
}

// status returns the status of the answer, if the fault decides it.
func (f Fault) status() int {
	switch {
	case f.Status != 0:
		return f.Status
	case f.Kind == Throttle || f.Kind == ThrottleDate:
		return http.StatusTooManyRequests
	case f.Kind == Refuse && f.Error == "invalid_client":
		return http.StatusUnauthorized
	case f.Kind == Refuse:
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// Inject adds a fault to the end of the queue. A token request meets the first fault in the queue that applies to its
// client, before anything about the request is checked.
func (s *Server) Inject(fault Fault) error {
	fault, err := fault.complete()
	if err != nil {
		return err
	}
	s.faults.add(fault)
	return nil
}

// Unmet returns the faults of a list that no request will meet, because one before them has no count and so lasts
// until it is cleared.
func Unmet(faults []Fault) (endless Fault, never []Fault) {
	for i, f := range faults {
		if f.Count != 0 || f.Client != "" {
			continue
		}
		return f, faults[i+1:]
	}
	return Fault{}, nil
}

// Clear removes every fault from the queue. It does not affect requests that have met theirs.
func (s *Server) Clear() { s.faults.clear() }

// faultQueue holds the pending faults, with their remaining counts.
type faultQueue struct {
	mu    sync.Mutex
	queue []Fault
}

func (q *faultQueue) add(faults ...Fault) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, faults...)
}

func (q *faultQueue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = nil
}

func (q *faultQueue) all() []Fault {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.queue)
}

// take returns the fault for a client's request, the zero Fault when there is none.
func (q *faultQueue) take(client string) Fault {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.queue, func(f Fault) bool { return f.Client == "" || f.Client == client })
	if i < 0 {
		return Fault{}
	}
	fault := q.queue[i]
	switch fault.Count {
	case 0:
	case 1:
		q.queue = slices.Delete(q.queue, i, i+1)
	default:
		q.queue[i].Count--
	}
	return fault
}
