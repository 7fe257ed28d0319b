package devserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// Where the types of events are (CAEP 1.0, RISC 1.0, OpenID SSF 1.0).
const (
	caepEvents = "https://schemas.openid.net/secevent/caep/event-type/"
	riscEvents = "https://schemas.openid.net/secevent/risc/event-type/"
	ssfEvents  = "https://schemas.openid.net/secevent/ssf/event-type/"

	pollMethod = "urn:ietf:rfc:8936"
)

// signalEvents are the events that the server supports, by the last part of their types.
var signalEvents = map[string]string{
	"session-revoked": caepEvents, "token-claims-change": caepEvents, "credential-change": caepEvents,
	"assurance-level-change": caepEvents, "device-compliance-change": caepEvents,
	"account-disabled": riscEvents, "account-enabled": riscEvents, "account-purged": riscEvents,
}

// SignalEvents are the names of the events that the server sends.
func SignalEvents() []string { return slices.Sorted(maps.Keys(signalEvents)) }

// Signal is an event that the server sends as a transmitter of Shared Signals.
type Signal struct {
	Event   string         `json:"event"`             // such as session-revoked
	Client  string         `json:"client,omitempty"`  // whom it is about, by client_id
	Subject map[string]any `json:"subject,omitempty"` // sub_id in place of the client's
	Payload map[string]any `json:"payload,omitempty"` // members beside event_timestamp
	At      time.Time      `json:"at,omitzero"`       // when it happened; now where left out
}

// Stream is the state of a receiver's stream at the server.
type Stream struct {
	ID       string            `json:"stream_id"`
	Client   string            `json:"client"` // whose token made it
	Status   string            `json:"status"`
	Events   []string          `json:"events"`
	Subjects int               `json:"subjects"`
	Waiting  int               `json:"waiting"` // SETs that are not acknowledged
	Polls    int               `json:"polls"`
	Acked    []string          `json:"acked"`   // jti, oldest first
	Refused  map[string]string `json:"refused"` // jti → err
}

// stream is a receiver's stream. The transmitter's mutex guards it.
type stream struct {
	Stream
	description string
	uris        []string
	subjects    []map[string]any
	queue       []queued
	verifiedAt  time.Time
	news        chan struct{} // closes when something is queued
}

type queued struct{ jti, set string }

// transmitter is the server as a transmitter of Shared Signals.
type transmitter struct {
	signer signer

	mu      sync.Mutex
	streams []*stream // guarded by mu, oldest first
	count   int
}

const (
	// minVerification is the least time between two verification events of a stream.
	minVerification = time.Second
	// holdPoll is how long a poll waits for events.
	holdPoll = 30 * time.Second
)

// Signal sends an event to every stream that wants it: to those that asked for its type and have its
// subject. It returns its jti.
func (s *Server) Signal(signal Signal) (jti string, err error) {
	prefix, known := signalEvents[signal.Event]
	if !known {
		return "", fmt.Errorf("sending signal %q: there is no such event, only %s", signal.Event, strings.Join(SignalEvents(), ", "))
	}
	subject := signal.Subject
	if subject == nil {
		if signal.Client == "" {
			return "", fmt.Errorf("sending signal %q: it is about neither a client nor a subject", signal.Event)
		}
		subject = s.subjectOf(signal.Client)
	}
	at := signal.At
	if at.IsZero() {
		at = time.Now()
	}
	payload := map[string]any{"event_timestamp": at.Unix()}
	maps.Copy(payload, signal.Payload)
	uri := prefix + signal.Event
	s.transmitter.mu.Lock()
	defer s.transmitter.mu.Unlock()
	jti = s.transmitter.nextID("event")
	for _, to := range s.transmitter.streams {
		if slices.Contains(to.uris, uri) && to.about(subject) {
			set, err := s.setFor(to, jti, uri, subject, payload)
			if err != nil {
				return "", err
			}
			to.enqueue(jti, set)
		}
	}
	return jti, nil
}

// subjectOf is how the server names a client.
func (s *Server) subjectOf(client string) map[string]any {
	return map[string]any{"format": "iss_sub", "iss": s.URL(), "sub": client}
}

// Queue puts a SET of the caller's making, whatever it is, into every stream.
func (s *Server) Queue(jti, set string) {
	s.transmitter.mu.Lock()
	defer s.transmitter.mu.Unlock()
	for _, to := range s.transmitter.streams {
		to.enqueue(jti, set)
	}
}

// Streams are the receivers' streams, oldest first.
func (s *Server) Streams() []Stream {
	s.transmitter.mu.Lock()
	defer s.transmitter.mu.Unlock()
	var all []Stream
	for _, one := range s.transmitter.streams {
		shown := one.Stream
		shown.Waiting, shown.Subjects = len(one.queue), len(one.subjects)
		shown.Acked, shown.Refused = slices.Clone(one.Acked), maps.Clone(one.Refused)
		all = append(all, shown)
	}
	return all
}

// SetStreamStatus makes every stream enabled, paused or disabled, and tells the receivers of it.
func (s *Server) SetStreamStatus(status, reason string) error {
	if !slices.Contains([]string{"enabled", "paused", "disabled"}, status) {
		return fmt.Errorf("setting the streams' status: %q is neither enabled, paused nor disabled", status)
	}
	s.transmitter.mu.Lock()
	defer s.transmitter.mu.Unlock()
	for _, one := range s.transmitter.streams {
		one.Status = status
		jti := s.transmitter.nextID("status")
		set, err := s.setFor(one, jti, ssfEvents+"stream-updated", map[string]any{"format": "opaque", "id": one.ID}, map[string]any{"status": status, "reason": reason})
		if err != nil {
			return err
		}
		one.enqueue(jti, set)
	}
	return nil
}

// DropStreams forgets every stream, as a transmitter does that was set up anew.
func (s *Server) DropStreams() {
	s.transmitter.mu.Lock()
	defer s.transmitter.mu.Unlock()
	for _, one := range s.transmitter.streams {
		close(one.news)
	}
	s.transmitter.streams = nil
}

func (t *transmitter) nextID(kind string) string {
	t.count++
	return fmt.Sprintf("%s-%d-%s", kind, t.count, rand.Text()[:8])
}

// setFor makes a SET for a stream (RFC 8417, 2.2; OpenID SSF 1.0, 4.1).
func (s *Server) setFor(to *stream, jti, uri string, subject, payload map[string]any) (string, error) {
	return s.SignSET(nil, map[string]any{
		"iss": s.URL(), "aud": to.audience(), "jti": jti, "iat": time.Now().Unix(), "txn": jti,
		"sub_id": subject, "events": map[string]any{uri: payload},
	})
}

// audience is the stream's: the receiver, by its client_id.
func (o *stream) audience() string { return "urn:credagent:receiver:" + o.Client }

func (o *stream) enqueue(jti, set string) {
	o.queue = append(o.queue, queued{jti, set})
	close(o.news)
	o.news = make(chan struct{})
}

// about reports whether a subject, or a member of a complex one, is one of the stream's.
func (o *stream) about(subject map[string]any) bool {
	for _, mine := range o.subjects {
		if same(mine, subject) {
			return true
		}
		for _, member := range subject {
			if m, ok := member.(map[string]any); ok && same(mine, m) {
				return true
			}
		}
	}
	return false
}

// same compares values by their JSON.
func same(a, b map[string]any) bool {
	var x, y any
	left, _ := json.Marshal(a) // it was JSON, or is made of texts: never fails
	right, _ := json.Marshal(b)
	return json.Unmarshal(left, &x) == nil && json.Unmarshal(right, &y) == nil && reflect.DeepEqual(x, y)
}

func (s *Server) routeSignals(mux *http.ServeMux) {
	mux.HandleFunc("GET /.well-known/ssf-configuration", s.serveTransmitter)
	mux.HandleFunc("GET /ssf/keys", s.serveSignalKeys)
	for pattern, handle := range map[string]func(*http.Request, string) (int, any){
		"GET /ssf/stream":           s.readStreams,
		"POST /ssf/stream":          s.createStream,
		"PATCH /ssf/stream":         s.updateStream,
		"DELETE /ssf/stream":        s.deleteStream,
		"GET /ssf/status":           s.readStreamStatus,
		"POST /ssf/subjects/add":    s.addSubject,
		"POST /ssf/subjects/remove": s.removeSubject,
		"POST /ssf/verify":          s.verifyStream,
		"POST /ssf/poll/{id}":       s.pollStream,
	} {
		mux.HandleFunc(pattern, s.authorized(handle))
	}
}

// authorized admits whoever has a token of the server's, and hands on whose it is.
func (s *Server) authorized(next func(*http.Request, string) (int, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		g, valid := s.tokens.find(token)
		if !ok || !valid {
			w.Header().Set("WWW-Authenticate", `Bearer realm="credagent devserver", error="invalid_token"`)
			writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, answer := next(r, g.client)
		if answer == nil {
			w.WriteHeader(status)
			return
		}
		writeJSON(w, status, answer)
	}
}

func (s *Server) serveTransmitter(w http.ResponseWriter, _ *http.Request) {
	base := s.URL() + "/ssf"
	writeJSON(w, http.StatusOK, map[string]any{
		"spec_version": "1_0", "issuer": s.URL(), "jwks_uri": base + "/keys",
		"delivery_methods_supported": []string{pollMethod},
		"configuration_endpoint":     base + "/stream", "status_endpoint": base + "/status",
		"add_subject_endpoint": base + "/subjects/add", "remove_subject_endpoint": base + "/subjects/remove",
		"verification_endpoint": base + "/verify", "critical_subject_members": []string{"tenant"}, "default_subjects": "NONE",
		"authorization_schemes": []map[string]string{{"spec_urn": "urn:ietf:rfc:6749"}},
	})
}

func refusedSignal(status int, why string) (int, any) {
	return status, map[string]string{"error": "invalid_request", "error_description": why}
}

// find returns a client's stream; the mutex is held.
func (t *transmitter) find(id, client string) *stream {
	i := slices.IndexFunc(t.streams, func(o *stream) bool { return o.ID == id && o.Client == client })
	if i < 0 {
		return nil
	}
	return t.streams[i]
}

func (s *Server) describe(o *stream) map[string]any {
	supported := []string{}
	for _, name := range SignalEvents() {
		supported = append(supported, signalEvents[name]+name)
	}
	return map[string]any{
		"stream_id": o.ID, "iss": s.URL(), "aud": o.audience(), "description": o.description,
		"delivery":         map[string]string{"method": pollMethod, "endpoint_url": s.URL() + "/ssf/poll/" + o.ID},
		"events_supported": supported, "events_requested": o.uris, "events_delivered": o.delivered(),
		"min_verification_interval": minVerification.Seconds(), "inactivity_timeout": (24 * time.Hour).Seconds(),
	}
}

// delivered are the types that were asked for and that the server sends.
func (o *stream) delivered() []string {
	return slices.DeleteFunc(slices.Clone(o.uris), func(uri string) bool {
		return !slices.ContainsFunc(SignalEvents(), func(name string) bool { return signalEvents[name]+name == uri })
	})
}

func (s *Server) readStreams(r *http.Request, client string) (int, any) {
	s.transmitter.mu.Lock()
	defer s.transmitter.mu.Unlock()
	if id := r.URL.Query().Get("stream_id"); id != "" {
		o := s.transmitter.find(id, client)
		if o == nil {
			return refusedSignal(http.StatusNotFound, "there is no such stream")
		}
		return http.StatusOK, s.describe(o)
	}
	all := []any{}
	for _, o := range s.transmitter.streams {
		if o.Client == client {
			all = append(all, s.describe(o))
		}
	}
	return http.StatusOK, all
}

// wish is what a receiver wants of a stream.
type wish struct {
	ID        string   `json:"stream_id"`
	Requested []string `json:"events_requested"`
	Delivery  struct {
		Method string `json:"method"`
	} `json:"delivery"`
	Description string         `json:"description"`
	Subject     map[string]any `json:"subject"`
	State       string         `json:"state"`
}

func readWish(r *http.Request) (wish, error) {
	var w wish
	if err := json.NewDecoder(r.Body).Decode(&w); err != nil {
		return wish{}, errors.New("the body is not what is expected here")
	}
	return w, nil
}

func (s *Server) createStream(r *http.Request, client string) (int, any) {
	w, err := readWish(r)
	if err != nil {
		return refusedSignal(http.StatusBadRequest, err.Error())
	}
	if w.Delivery.Method != pollMethod {
		return refusedSignal(http.StatusBadRequest, "only delivery by polling is offered")
	}
	s.transmitter.mu.Lock()
	defer s.transmitter.mu.Unlock()
	o := &stream{uris: w.Requested, description: w.Description, news: make(chan struct{})}
	o.Stream = Stream{ID: s.transmitter.nextID("stream"), Client: client, Status: "enabled", Events: w.Requested, Refused: map[string]string{}}
	s.transmitter.streams = append(s.transmitter.streams, o)
	return http.StatusCreated, s.describe(o)
}

// forStream has something done with the stream that a request names.
func (s *Server) forStream(r *http.Request, client string, do func(o *stream, w wish) (int, any)) (int, any) {
	w, err := readWish(r)
	if err != nil {
		return refusedSignal(http.StatusBadRequest, err.Error())
	}
	s.transmitter.mu.Lock()
	defer s.transmitter.mu.Unlock()
	o := s.transmitter.find(w.ID, client)
	if o == nil {
		return refusedSignal(http.StatusNotFound, "there is no such stream")
	}
	return do(o, w)
}

func (s *Server) updateStream(r *http.Request, client string) (int, any) {
	return s.forStream(r, client, func(o *stream, w wish) (int, any) {
		if w.Requested != nil {
			o.uris, o.Events = w.Requested, w.Requested
		}
		o.description = cmp.Or(w.Description, o.description)
		return http.StatusOK, s.describe(o)
	})
}

func (s *Server) deleteStream(r *http.Request, client string) (int, any) {
	s.transmitter.mu.Lock()
	defer s.transmitter.mu.Unlock()
	o := s.transmitter.find(r.URL.Query().Get("stream_id"), client)
	if o == nil {
		return refusedSignal(http.StatusNotFound, "there is no such stream")
	}
	close(o.news)
	s.transmitter.streams = slices.DeleteFunc(s.transmitter.streams, func(other *stream) bool { return other == o })
	return http.StatusNoContent, nil
}

func (s *Server) readStreamStatus(r *http.Request, client string) (int, any) {
	s.transmitter.mu.Lock()
	defer s.transmitter.mu.Unlock()
	o := s.transmitter.find(r.URL.Query().Get("stream_id"), client)
	if o == nil {
		return refusedSignal(http.StatusNotFound, "there is no such stream")
	}
	return http.StatusOK, map[string]string{"stream_id": o.ID, "status": o.Status}
}

func (s *Server) addSubject(r *http.Request, client string) (int, any) {
	return s.forStream(r, client, func(o *stream, w wish) (int, any) {
		if w.Subject == nil {
			return refusedSignal(http.StatusBadRequest, "subject is missing")
		}
		if !slices.ContainsFunc(o.subjects, func(mine map[string]any) bool { return same(mine, w.Subject) }) {
			o.subjects = append(o.subjects, w.Subject)
		}
		return http.StatusOK, map[string]any{}
	})
}

func (s *Server) removeSubject(r *http.Request, client string) (int, any) {
	return s.forStream(r, client, func(o *stream, w wish) (int, any) {
		o.subjects = slices.DeleteFunc(o.subjects, func(mine map[string]any) bool { return same(mine, w.Subject) })
		return http.StatusNoContent, nil
	})
}

func (s *Server) verifyStream(r *http.Request, client string) (int, any) {
	return s.forStream(r, client, func(o *stream, w wish) (int, any) {
		if now := time.Now(); now.Sub(o.verifiedAt) < minVerification {
			return refusedSignal(http.StatusTooManyRequests, "verification events are not sent that often")
		}
		o.verifiedAt = time.Now()
		jti := s.transmitter.nextID("verification")
		set, err := s.setFor(o, jti, ssfEvents+"verification", map[string]any{"format": "opaque", "id": o.ID}, map[string]any{"state": w.State})
		if err != nil {
			return refusedSignal(http.StatusInternalServerError, err.Error())
		}
		o.enqueue(jti, set)
		return http.StatusNoContent, nil
	})
}

// pollRequest is a poll (RFC 8936, 2.2).
type pollRequest struct {
	MaxEvents         *int                `json:"maxEvents"`
	ReturnImmediately bool                `json:"returnImmediately"`
	Acks              []string            `json:"ack"`
	Errors            map[string]setError `json:"setErrs"`
}

type setError struct {
	Err         string `json:"err"`
	Description string `json:"description"`
}

func (s *Server) pollStream(r *http.Request, client string) (int, any) {
	var p pollRequest
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		return refusedSignal(http.StatusBadRequest, "the body is not a poll")
	}
	id := r.PathValue("id")
	s.transmitter.mu.Lock()
	o := s.transmitter.find(id, client)
	if o != nil {
		o.Polls++
		o.settle(p)
	}
	s.transmitter.mu.Unlock()
	if o == nil {
		return refusedSignal(http.StatusNotFound, "there is no such stream")
	}
	ctx, cancel := context.WithTimeout(r.Context(), holdPoll)
	defer cancel()
	for {
		if s.transmitter.gone(o) {
			return refusedSignal(http.StatusNotFound, "there is no such stream any more")
		}
		sets, more, news := s.transmitter.waiting(o, p.MaxEvents)
		if len(sets) > 0 || p.ReturnImmediately || p.MaxEvents != nil && *p.MaxEvents == 0 || ctx.Err() != nil {
			return http.StatusOK, map[string]any{"sets": sets, "moreAvailable": more}
		}
		select {
		case <-news:
		case <-ctx.Done():
		case <-s.closed:
			cancel()
		}
	}
}

func (t *transmitter) gone(o *stream) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !slices.Contains(t.streams, o)
}

// settle takes out what a receiver has stored or refused.
func (o *stream) settle(p pollRequest) {
	for _, jti := range p.Acks {
		if o.take(jti) {
			o.Acked = append(o.Acked, jti)
		}
	}
	for jti, why := range p.Errors {
		if o.take(jti) {
			o.Refused[jti] = why.Err
		}
	}
}

func (o *stream) take(jti string) bool {
	before := len(o.queue)
	o.queue = slices.DeleteFunc(o.queue, func(q queued) bool { return q.jti == jti })
	return len(o.queue) < before
}

// waiting are the SETs to send now. One that is not acknowledged is sent again.
func (t *transmitter) waiting(o *stream, most *int) (sets map[string]string, more bool, news <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sets = map[string]string{}
	if o.Status != "enabled" {
		return sets, false, o.news
	}
	for _, q := range o.queue {
		if most != nil && len(sets) >= *most {
			return sets, true, o.news
		}
		sets[q.jti] = q.set
	}
	return sets, false, o.news
}
