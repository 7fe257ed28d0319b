package signals

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/internal/printable"
)

const (
	// longPoll is how long a transmitter may hold a poll. What is between may end it sooner.
	longPoll = 2 * time.Minute
	// heldFor is from when on an end without an answer is that of a poll that was held for too long.
	heldFor = 20 * time.Second
	// quick is how soon an answer without news says that the transmitter holds no polls.
	quick = 2 * time.Second
	// idleWait is between polls that bring nothing and are not held.
	idleWait = 30 * time.Second
	// firstBatch is how many SETs are asked for at once, which fit into an answer.
	firstBatch = 50
)

const stepPoll = "polling"

// polling is how polls go.
type polling struct {
	asked bool          // the step that runs is a poll
	at    time.Time     // when the last answer came; zero before
	next  time.Time     // when the next poll is due
	most  int           // how many SETs to ask for
	limit time.Duration // how long a poll may be held
	probe bool          // the next one is not to be held: whether the transmitter answers at all
	idle  int           // how many in a row were quick and brought nothing new
}

// poll asks for SETs, acknowledges those that are stored and reports those that were refused (RFC 8936, 2.4).
func (s *Stream) poll(ctx context.Context) *failure {
	held := s.cfg.Interval == 0 && !s.polling.probe
	r := request{step: stepPoll, method: http.MethodPost, url: s.setup.config.Delivery.Endpoint}
	if held {
		r.limit = s.polling.limit
	}
	acks, errs := slices.Clone(s.record.Acks), maps.Clone(s.refused)
	r.body = poll{MaxEvents: s.polling.most, ReturnImmediately: !held, Acks: acks, Errors: errs}
	sent := time.Now()
	s.polling.asked = true
	body, _, failed := s.link.send(ctx, r)
	if failed != nil {
		return s.pollFailed(failed, held)
	}
	p, err := readPolled(body)
	if err != nil {
		return &failure{step: r.step, class: policy.Transient, message: err.Error()}
	}
	s.succeeded()
	s.record.Acks = without(s.record.Acks, acks)
	for jti := range errs {
		delete(s.refused, jti)
	}
	fresh := s.takeAll(ctx, p.Sets)
	s.plan(p, fresh, sent, time.Now())
	return nil
}

// pollFailed tells polls that were held for too long from failures.
func (s *Stream) pollFailed(f *failure, held bool) *failure {
	switch {
	case f.large && s.polling.most > 1:
		s.polling.most /= 2
	case f.large:
		f.advice = "a single event is too large to be read: have it removed from the stream at the transmitter"
	case f.status == http.StatusNotFound || f.status == http.StatusGone:
		f.forget, f.class = true, policy.Transient
	case held && f.class == policy.Transient && !f.wait.Known && max(f.took, f.timedOut) >= heldFor:
		s.polling.probe = true
		if f.timedOut == 0 { // something between does not hold a connection for longer
			s.polling.limit = max(heldFor, f.took*3/4)
		}
		return nil
	}
	return f
}

// plan says when the next poll is due. With something to acknowledge or more to come that is at once.
func (s *Stream) plan(p polled, fresh int, sent, now time.Time) {
	s.polling.at, s.polling.probe = now, false
	if fresh > 0 || now.Sub(sent) >= quick {
		s.polling.idle = 0
	} else {
		s.polling.idle++
	}
	wait := time.Duration(0)
	waits := len(s.record.Acks) > 0 || len(s.refused) > 0 || p.More
	switch {
	case s.polling.idle > 1 && s.cfg.Interval == 0 || s.polling.idle > 3:
		wait = max(s.interval(), idleWait)
	case !waits:
		wait = s.interval()
	}
	s.polling.next = now.Add(wait + time.Duration(float64(wait)/10*s.o.Roll()))
}

// interval is between polls, but for long polling: a stream that is not polled for too long may end.
func (s *Stream) interval() time.Duration {
	if inactivity := time.Duration(s.setup.config.Inactivity); inactivity > 0 {
		return min(s.cfg.Interval, max(inactivity/2, 10*time.Second))
	}
	return s.cfg.Interval
}

// takeAll takes the SETs of an answer. It returns how many were not there before.
func (s *Stream) takeAll(ctx context.Context, sets map[string]string) (fresh int) {
	jtis := slices.Sorted(maps.Keys(sets))
	for _, jti := range jtis[:min(len(jtis), 2*firstBatch)] { // what is left comes again
		if s.take(ctx, jti, sets[jti], false) {
			fresh++
		}
	}
	return fresh
}

// takeHeld takes the SETs that waited for newer keys.
func (s *Stream) takeHeld() {
	for _, jti := range slices.Sorted(maps.Keys(s.held)) {
		s.take(context.Background(), jti, s.held[jti], true)
	}
	clear(s.held)
}

// take checks a SET and does what it says. It reports whether it is one that was not there before.
func (s *Stream) take(ctx context.Context, jti, raw string, final bool) (fresh bool) {
	audience := s.record.Audience
	if s.cfg.Audience != "" {
		audience = []string{s.cfg.Audience}
	}
	x, err := readSET(raw, jti, s.keys, expected{s.cfg.Issuer, audience})
	if errors.Is(err, errUnknownKey) && !final {
		s.held[jti] = raw
		return true
	}
	if errors.Is(err, errUnknownKey) {
		err = refuse(codeKey, "its key is not among the transmitter's")
	}
	if err == nil && s.seen[digest(jti)] {
		s.count(nameOf(x.event), outcomeDuplicate)
		s.acknowledge(jti)
		return false
	}
	outcome := outcomeRefused
	if err == nil {
		outcome, err = s.handle(ctx, x)
	}
	var wrong *setError
	if errors.As(err, &wrong) {
		s.refuseSET(jti, wrong)
		return false
	}
	s.count(nameOf(x.event), outcome)
	s.remember(jti)
	s.acknowledge(jti)
	return true
}

// refuseSET has the transmitter told why a SET is refused (RFC 8936, 2.4.4).
func (s *Stream) refuseSET(jti string, why *setError) {
	s.count(labelInvalid, outcomeRefused)
	if len(s.refused) < 2*firstBatch {
		s.refused[jti] = *why
	}
	if s.seldom("refused " + why.Code) {
		s.log.Warn("signal refused", logkey.JTI, printable.Text(jti, 100), logkey.ErrorCode, why.Code, logkey.Reason, why.Description)
	}
}

// seldom reports whether something was not logged for a while.
func (s *Stream) seldom(what string) bool {
	now := time.Now()
	if last, ok := s.problems[what]; ok && now.Sub(last) < time.Minute {
		return false
	}
	s.problems[what] = now
	return true
}

// acknowledge has a SET acknowledged by the next poll, before which the record is saved.
func (s *Stream) acknowledge(jti string) {
	if !slices.Contains(s.record.Acks, jti) && len(s.record.Acks) < 2*firstBatch {
		s.record.Acks = append(s.record.Acks, jti)
		s.unsaved = true
	}
}

// remember keeps a SET from being acted upon again, as far back as the record goes.
func (s *Stream) remember(jti string) {
	mark := digest(jti)
	s.seen[mark] = true
	s.record.Seen = append(s.record.Seen, mark)
	if over := len(s.record.Seen) - maxSeen; over > 0 {
		for _, old := range s.record.Seen[:over] {
			delete(s.seen, old)
		}
		s.record.Seen = slices.Clone(s.record.Seen[over:])
	}
	s.unsaved = true
}

// handle does what an event says, and returns the outcome. Its error is a *setError.
func (s *Stream) handle(ctx context.Context, x set) (outcome string, err error) {
	switch x.event {
	case eventVerification:
		return s.handleVerification(x)
	case eventStreamUpdated:
		if !x.subject.isStream(s.record.ID) {
			return "", refuse(codeRequest, "its subject is not the stream")
		}
		is := streamStatus{Status: x.payload.Status, Reason: x.payload.Reason}
		if !is.known() {
			return "", refuse(codeRequest, "its status is none that there is")
		}
		s.learnStatus(is)
		return outcomeActed, nil
	}
	return s.handleEvent(ctx, x), nil
}

// handleVerification takes a verification event (OpenID SSF 1.0, 8.1.4).
func (s *Stream) handleVerification(x set) (outcome string, err error) {
	switch state := x.payload.State; {
	case !x.subject.isStream(s.record.ID):
		return "", refuse(codeRequest, "its subject is not the stream")
	case state == "": // the transmitter may send one by itself
		return outcomeIgnored, nil
	case state != s.record.VerifyState:
		s.verifying.wrong = true
		return "", refuse(codeState, "its state is not the one that was asked for")
	}
	s.record.VerifyState, s.record.Verified = "", time.Now().Round(0)
	s.verifying = verifying{}
	s.log.Info("stream verified", logkey.StreamID, s.record.ID)
	return outcomeActed, nil
}

// problemsKept bounds what is remembered of what was logged.
const problemsKept = 100

// tidy forgets what was logged long ago.
func (s *Stream) tidy() {
	if len(s.problems) > problemsKept {
		clear(s.problems)
	}
}
