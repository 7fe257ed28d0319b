package signals

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/internal/printable"
)

const (
	// metadataLife is how long a transmitter's metadata is used before it is asked for again.
	metadataLife = 24 * time.Hour
	// statusLife is how long a stream's status is believed.
	statusLife = time.Hour
	// disabledLife is how long it is believed of a stream that is not enabled.
	disabledLife = policy.MaxProbe
)

// setup is how far a stream has come to where it can be polled.
type setup struct {
	config    configuration // zero while it is not known
	delivered []string      // by the names that people use
	looked    bool          // the stream that is there already was looked for
	only      bool          // the transmitter has no other stream for us than the one that there is
	status    string        // as the transmitter last said; "" while it is not known
	reason    string
	statusAt  time.Time // zero where it is to be asked for
	refused   map[string]bool
}

// ready reports whether there is a stream that can be polled.
func (p *setup) ready() bool { return p.config.ID != "" }

// doing is a step of a stream: at most one request.
type doing func(ctx context.Context) *failure

// next is what is to be done, and when.
func (s *Stream) next(now time.Time) (do doing, at time.Time) {
	switch {
	case s.fetchedAt.IsZero() || now.Sub(s.fetchedAt) > metadataLife:
		return s.discover, now
	case len(s.keys) == 0 || now.Sub(s.keysAt) > keysLife:
		return s.fetchKeys, now
	case len(s.held) > 0:
		return s.fetchKeys, s.keysAt.Add(keysRest)
	case !s.setup.ready():
		return s.find(), now
	case s.link.failure != nil && s.link.failure.step == stepPoll:
		return s.poll, now // what else works says nothing of that
	case !slices.Equal(s.wanted(), sorted(s.setup.config.Requested)) && !s.setup.refused["events"]:
		return s.askForEvents, now
	case s.missingSubject() != nil:
		return s.addSubject, now
	case s.metadata.StatusURI != "" && s.statusIsOld(now):
		return s.readStatus, now
	case s.verifyDue(now):
		return s.verify, now
	}
	return s.poll, s.polling.next
}

func sorted(texts []string) []string { return slices.Sorted(slices.Values(texts)) }

// wanted are the types of the events to ask for.
func (s *Stream) wanted() []string {
	var wanted []string
	for _, event := range s.cfg.Events {
		wanted = append(wanted, uriOf(event))
	}
	slices.Sort(wanted)
	return wanted
}

func (s *Stream) insecure() bool { return s.o.Client.AllowInsecureHTTP }

// discover reads the transmitter's metadata. Old metadata serves on while new cannot be had.
func (s *Stream) discover(ctx context.Context) *failure {
	const step = "reading the transmitter's configuration"
	at, err := metadataURL(s.cfg.Issuer)
	if err != nil {
		return &failure{step: step, class: policy.Configuration, message: err.Error()}
	}
	body, _, failed := s.link.send(ctx, request{step: step, method: http.MethodGet, url: at, open: true})
	if failed != nil {
		if failed.status == http.StatusNotFound {
			failed.advice = "check issuer: there is no transmitter's configuration at " + at
		}
		return s.outdated(failed)
	}
	m, err := readMetadata(body, s.cfg.Issuer, s.insecure())
	if err != nil {
		return s.outdated(&failure{step: step, class: policy.Configuration, message: err.Error(),
			advice: "spell issuer exactly as the transmitter does"})
	}
	s.metadata, s.fetchedAt = m, time.Now()
	s.succeeded()
	return nil
}

func (s *Stream) outdated(f *failure) *failure {
	if !s.fetchedAt.IsZero() {
		s.fetchedAt = time.Now()
	}
	return f
}

// fetchKeys reads the transmitter's keys. SETs that waited for them are checked once more.
func (s *Stream) fetchKeys(ctx context.Context) *failure {
	const step = "reading the transmitter's keys"
	body, _, failed := s.link.send(ctx, request{step: step, method: http.MethodGet, url: s.metadata.KeysURI, open: true})
	if failed != nil {
		return failed
	}
	all, err := readKeys(body)
	if err != nil {
		return &failure{step: step, class: policy.Transient, message: err.Error()}
	}
	s.keys, s.keysAt = all, time.Now()
	s.succeeded()
	s.takeHeld()
	return nil
}

// find is how the stream is found that is ours, or another one is made.
func (s *Stream) find() doing {
	switch {
	case s.record.ID != "":
		return s.readStream
	case !s.setup.looked:
		return s.listStreams
	}
	return s.create
}

// readStream reads the configuration of the stream that an earlier process had.
func (s *Stream) readStream(ctx context.Context) *failure {
	const step = "reading the stream"
	body, status, failed := s.link.send(ctx, request{step: step, method: http.MethodGet, url: withStream(s.metadata.ConfigurationURI, s.record.ID),
		accept: []int{http.StatusNotFound}})
	switch {
	case failed != nil:
		return failed
	case status == http.StatusNotFound:
		s.succeeded()
		s.log.Warn("the transmitter does not have the stream any more", logkey.StreamID, s.record.ID)
		s.forget()
		return nil
	}
	c, err := readConfiguration(body)
	if err == nil && c.ID != s.record.ID {
		err = fmt.Errorf("it is the stream %s", quote(c.ID))
	}
	if err == nil && len(s.record.Audience) > 0 && !slices.Equal(sorted(c.Audience), sorted(s.record.Audience)) {
		err = fmt.Errorf("its aud has changed to %s", quote(strings.Join(c.Audience, ", ")))
	}
	if err == nil {
		err = c.check(s.cfg.Issuer, s.cfg.Audience, s.insecure())
	}
	if err != nil {
		return &failure{step: step, class: policy.Configuration, message: err.Error(),
			advice: "if that is meant, delete the stream at the transmitter, and another one is made"}
	}
	s.adopt(c)
	return nil
}

// listStreams looks for the stream that an earlier process without a state made.
func (s *Stream) listStreams(ctx context.Context) *failure {
	const step = "looking for the stream"
	body, status, failed := s.link.send(ctx, request{step: step, method: http.MethodGet, url: s.metadata.ConfigurationURI,
		accept: []int{http.StatusNotFound}})
	if failed != nil {
		return failed
	}
	var all []configuration
	if status != http.StatusNotFound {
		var err error
		if all, err = readConfigurations(body); err != nil {
			return &failure{step: step, class: policy.Transient, message: err.Error()}
		}
	}
	s.setup.looked = true
	s.succeeded()
	for _, c := range all {
		ours, err := c.Description == s.description(), c.check(s.cfg.Issuer, s.cfg.Audience, s.insecure())
		switch {
		case err == nil && (ours || s.setup.only):
			s.adopt(c)
			return nil
		case ours: // another one would be no better
			return s.looksAgain(&failure{step: step, class: policy.Configuration, message: err.Error(), advice: adviceStream})
		}
	}
	if s.setup.only {
		s.setup.looked, s.setup.only = false, false
		return &failure{step: step, class: policy.Configuration, message: "the transmitter makes no other stream, and none that is there can be polled with what is configured",
			advice: "delete the stream that is not used any more at the transmitter"}
	}
	return nil
}

// description is how our stream is found again. Each host has a stream of its own, as what one has
// acknowledged no other one gets.
func (s *Stream) description() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return "credagent " + s.cfg.Name + " on " + host
}

// create makes a stream (OpenID SSF 1.0, 8.1.1.1).
func (s *Stream) create(ctx context.Context) *failure {
	const step = "creating the stream"
	body, status, failed := s.link.send(ctx, request{step: step, method: http.MethodPost, url: s.metadata.ConfigurationURI, body: map[string]any{
		"events_requested": s.wanted(), "delivery": map[string]string{"method": methodPoll}, "description": s.description(),
	}, accept: []int{http.StatusConflict}})
	switch {
	case failed != nil:
		return failed
	case status == http.StatusConflict: // the transmitter allows one stream, and there is one
		s.succeeded()
		s.setup.looked, s.setup.only = false, true
		return nil
	}
	c, err := readConfiguration(body)
	if err == nil {
		err = c.check(s.cfg.Issuer, s.cfg.Audience, s.insecure())
	}
	if err != nil {
		return s.looksAgain(&failure{step: step, class: policy.Configuration, message: err.Error(), advice: adviceStream})
	}
	s.log.Info("stream created", logkey.StreamID, c.ID)
	s.adopt(c)
	return nil
}

const adviceStream = "check issuer and audience against what the transmitter gives this client"

// looksAgain has a failure followed by another look for the stream.
func (s *Stream) looksAgain(f *failure) *failure {
	s.setup.looked = false
	return f
}

// adopt has a stream polled from now on.
func (s *Stream) adopt(c configuration) {
	s.succeeded()
	s.setup.config = c
	s.setup.delivered = nil
	for _, uri := range c.Delivered {
		if name := nameOf(uri); slices.Contains(s.cfg.Events, name) {
			s.setup.delivered = append(s.setup.delivered, name)
		}
	}
	slices.Sort(s.setup.delivered)
	if s.record.ID != c.ID {
		s.record.ID, s.record.Audience = c.ID, c.Audience
		s.record.Added, s.record.Verified, s.record.VerifyAsked, s.record.VerifyState = nil, time.Time{}, time.Time{}, ""
		s.unsaved = true
	} else if len(s.record.Audience) == 0 {
		s.record.Audience, s.unsaved = c.Audience, true
	}
	if missing := without(s.cfg.Events, s.setup.delivered); len(missing) > 0 {
		s.log.Warn("the transmitter does not deliver events that were asked for", logkey.Events, strings.Join(missing, ", "))
	}
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(one string) bool { return slices.Contains(some, one) })
}

// forget gives a stream up. What was seen of it is remembered: the next one may bring the same.
func (s *Stream) forget() {
	s.record.ID, s.record.Audience, s.record.Added, s.record.Acks = "", nil, nil, nil
	s.record.Verified, s.record.VerifyAsked, s.record.VerifyState = time.Time{}, time.Time{}, ""
	s.unsaved = true
	s.setup = setup{}
	s.verifying = verifying{}
	clear(s.held)
	clear(s.refused)
}

// askForEvents changes what the stream delivers to what the configuration wants (OpenID SSF 1.0, 8.1.1.3).
func (s *Stream) askForEvents(ctx context.Context) *failure {
	const step = "changing the stream's events"
	body, status, failed := s.link.send(ctx, request{step: step, method: http.MethodPatch, url: s.metadata.ConfigurationURI,
		body: map[string]any{"stream_id": s.record.ID, "events_requested": s.wanted()}, accept: []int{http.StatusMethodNotAllowed, http.StatusNotFound, http.StatusBadRequest}})
	if failed != nil {
		return failed
	}
	s.refuse("events")
	if status/100 != 2 {
		s.succeeded()
		s.log.Warn("the transmitter does not change what the stream delivers", logkey.Status, status)
		return nil
	}
	c, err := readConfiguration(body)
	if err != nil || c.ID != s.record.ID || c.check(s.cfg.Issuer, s.cfg.Audience, s.insecure()) != nil {
		return &failure{step: step, class: policy.Configuration, message: "the answer is not the stream's configuration"}
	}
	s.adopt(c)
	return nil
}

// refuse takes note that something is not to be asked for again.
func (s *Stream) refuse(what string) {
	if s.setup.refused == nil {
		s.setup.refused = map[string]bool{}
	}
	s.setup.refused[what] = true
}

// missingSubject is a subject that the stream is yet to be told of; nil for none.
func (s *Stream) missingSubject() *config.Subject {
	if s.metadata.AddSubjectURI == "" || s.metadata.DefaultSubjects == "ALL" || s.setup.refused["subjects"] {
		return nil
	}
	for i, subject := range s.cfg.Subjects {
		if !slices.Contains(s.record.Added, digestOf(subject)) {
			return &s.cfg.Subjects[i]
		}
	}
	return nil
}

func digestOf(subject config.Subject) string {
	subject.Client = ""
	return digest(fmt.Sprintf("%q", subject))
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:12])
}

// addSubject tells the stream whom it is about (OpenID SSF 1.0, 8.1.3.2).
func (s *Stream) addSubject(ctx context.Context) *failure {
	subject := *s.missingSubject()
	_, status, failed := s.link.send(ctx, request{step: "adding a subject to the stream", method: http.MethodPost, url: s.metadata.AddSubjectURI,
		body: map[string]any{"stream_id": s.record.ID, "subject": wire(subject), "verified": true}, accept: []int{http.StatusNotFound, http.StatusForbidden, http.StatusBadRequest}})
	if failed != nil {
		return failed
	}
	s.succeeded()
	if status/100 != 2 {
		s.refuse("subjects")
		s.log.Warn("the transmitter does not add a subject, events about it may not come", logkey.Client, subject.Client, logkey.Status, status)
		return nil
	}
	s.record.Added = append(s.record.Added, digestOf(subject))
	s.unsaved = true
	return nil
}

func (s *Stream) statusIsOld(now time.Time) bool {
	life := statusLife
	if s.setup.status != statusEnabled {
		life = disabledLife
	}
	return s.setup.statusAt.IsZero() || now.Sub(s.setup.statusAt) > life
}

// readStatus asks whether the stream is enabled (OpenID SSF 1.0, 8.1.2.1).
func (s *Stream) readStatus(ctx context.Context) *failure {
	const step = "reading the stream's status"
	body, status, failed := s.link.send(ctx, request{step: step, method: http.MethodGet, url: withStream(s.metadata.StatusURI, s.record.ID), accept: []int{http.StatusNotFound}})
	if failed != nil {
		return failed
	}
	if status == http.StatusNotFound {
		s.succeeded()
		s.log.Warn("the transmitter does not have the stream any more", logkey.StreamID, s.record.ID)
		s.forget()
		return nil
	}
	is, err := readStatus(body)
	if err != nil {
		return &failure{step: step, class: policy.Transient, message: err.Error()}
	}
	s.succeeded()
	s.learnStatus(is)
	return nil
}

// learnStatus takes note of what the transmitter says of the stream.
func (s *Stream) learnStatus(is streamStatus) {
	before := s.setup.status
	is.Reason = printable.Text(is.Reason, 200)
	s.setup.status, s.setup.reason, s.setup.statusAt = is.Status, "", time.Now()
	if is.Reason != "" {
		s.setup.reason = ": " + is.Reason
	}
	switch {
	case is.Status == before || is.Status == statusEnabled && before == "":
	case is.Status == statusEnabled:
		s.log.Info("the transmitter has enabled the stream again")
	default:
		s.log.Error("the transmitter does not send the stream's events", logkey.State, is.Status, logkey.Reason, is.Reason,
			logkey.Advice, "ask who runs the transmitter to enable the stream")
	}
}

func withStream(endpoint, id string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	query := u.Query()
	query.Set("stream_id", id)
	u.RawQuery = query.Encode()
	return u.String()
}

const (
	// verifyEvery is how often a stream is verified that works.
	verifyEvery = 24 * time.Hour
	// verifyAgain is how long a verification event may take; a longer min_verification_interval counts.
	verifyAgain = 5 * time.Minute
)

// verifying is the verification that is under way (OpenID SSF 1.0, 8.1.4).
type verifying struct {
	missed int  // how many events in a row did not come
	wrong  bool // an event came with another state
}

// sound reports whether nothing speaks against the stream.
func (v verifying) sound(m metadata) bool {
	return m.VerificationURI == "" || v.missed == 0 && !v.wrong
}

func (v verifying) problem() string {
	if v.wrong {
		return "a verification event came that was not asked for"
	}
	return "the verification event that was asked for did not come"
}

// verifyDue reports whether a verification event is to be asked for.
func (s *Stream) verifyDue(now time.Time) bool {
	if s.metadata.VerificationURI == "" {
		return false
	}
	least := max(verifyAgain, time.Duration(s.setup.config.MinVerify))
	if asked := s.record.VerifyAsked; !asked.IsZero() && now.Sub(asked) < least {
		return false
	}
	return s.record.VerifyState != "" || s.record.Verified.IsZero() || now.Sub(s.record.Verified) > max(verifyEvery, least)
}

// verify asks for a verification event with a state that nobody can guess.
func (s *Stream) verify(ctx context.Context) *failure {
	if s.record.VerifyState != "" {
		s.verifying.missed++
		s.log.Warn("verification event did not come", logkey.Attempt, s.verifying.missed)
	}
	s.record.VerifyState, s.record.VerifyAsked, s.unsaved = rand.Text(), time.Now().Round(0), true
	if s.save() > 0 { // or the next process might ask too soon, and not know the state
		return nil
	}
	_, _, failed := s.link.send(ctx, request{step: "verifying the stream", method: http.MethodPost, url: s.metadata.VerificationURI,
		body: map[string]string{"stream_id": s.record.ID, "state": s.record.VerifyState}})
	if failed != nil {
		s.record.VerifyState, s.unsaved = "", true
		return failed
	}
	s.succeeded()
	return nil
}
