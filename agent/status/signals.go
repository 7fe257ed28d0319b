package status

import (
	"reflect"
	"time"
)

// Stream is the state of a stream of Shared Signals. Instants that do not apply are left out.
type Stream struct {
	Name       string       `json:"name"`
	Issuer     string       `json:"issuer"`
	Healthy    bool         `json:"healthy"` // an event would reach the agent now, as far as it is known
	ID         string       `json:"stream_id,omitempty"`
	State      string       `json:"state,omitempty"`  // as the transmitter has it: enabled, paused or disabled
	Events     []string     `json:"events,omitempty"` // that the transmitter delivers and credagent acts upon
	VerifiedAt *time.Time   `json:"verified_at,omitempty"`
	LastPollAt *time.Time   `json:"last_poll_at,omitempty"`
	Received   int          `json:"received"` // since the start
	Pending    int          `json:"pending"`  // events that were stored, and whose tokens are yet to be replaced
	LastEvent  *StreamEvent `json:"last_event,omitempty"`

	ConsecutiveFailures int        `json:"consecutive_failures"`
	LastError           string     `json:"last_error,omitempty"` // why it is not healthy
	Advice              string     `json:"advice,omitempty"`
	RetryAt             *time.Time `json:"retry_at,omitempty"`
}

// StreamEvent is an event that came, and what became of it.
type StreamEvent struct {
	At      time.Time `json:"at"`
	Event   string    `json:"event"`
	Outcome string    `json:"outcome"` // as in the metric: acted, stale, ignored, duplicate or refused
}

// What becomes of an event.
const (
	SignalActed     = "acted"     // a token is replaced, or what else belongs to the event
	SignalStale     = "stale"     // the tokens are newer
	SignalIgnored   = "ignored"   // it is about nobody here, or nothing follows from it
	SignalDuplicate = "duplicate" // it came before
	SignalRefused   = "refused"   // it is not to be believed
)

// Ref returns a pointer to the event; nil for none.
func (e StreamEvent) Ref() *StreamEvent {
	if e.At.IsZero() {
		return nil
	}
	return &e
}

// Same reports whether two states are one to who looks at them.
func (s Stream) Same(other Stream) bool { return reflect.DeepEqual(s, other) }
