package signals

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/loopback"
	"github.com/credagent/credagent/internal/printable"
)

// methodPoll is delivery by polling (OpenID SSF 1.0, 6.1.2); methodPollOld is how drafts call it.
const (
	methodPoll    = "urn:ietf:rfc:8936"
	methodPollOld = "https://schemas.openid.net/secevent/risc/delivery-method/poll"
)

// metadata is what is read of the transmitter's configuration (OpenID SSF 1.0, 7.1).
type metadata struct {
	Issuer               string   `json:"issuer"`
	KeysURI              string   `json:"jwks_uri"`
	ConfigurationURI     string   `json:"configuration_endpoint"`
	StatusURI            string   `json:"status_endpoint"`
	AddSubjectURI        string   `json:"add_subject_endpoint"`
	VerificationURI      string   `json:"verification_endpoint"`
	CriticalMembers      []string `json:"critical_subject_members"`
	DefaultSubjects      string   `json:"default_subjects"`
	DeliveryMethods      []string `json:"delivery_methods_supported"`
	AuthorizationSchemes []scheme `json:"authorization_schemes"`
}

type scheme struct {
	SpecURN string `json:"spec_urn"`
}

// metadataURL is where an issuer's metadata is (OpenID SSF 1.0, 7.2): before the issuer's path.
func metadataURL(issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return "", errors.New("the issuer is not a URL")
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	return u.Scheme + "://" + u.Host + "/.well-known/ssf-configuration" + path, nil
}

// readMetadata reads the metadata of an issuer. That it names another one is never forgiven (7.2.3).
func readMetadata(body []byte, issuer string, insecure bool) (metadata, error) {
	var m metadata
	if err := json.Unmarshal(body, &m); err != nil {
		return metadata{}, errors.New("it is no transmitter's configuration")
	}
	if m.Issuer != issuer {
		return metadata{}, fmt.Errorf("it is that of the issuer %s", quote(m.Issuer))
	}
	for _, endpoint := range []struct {
		name, uri string
		needed    bool
	}{
		{"jwks_uri", m.KeysURI, true}, {"configuration_endpoint", m.ConfigurationURI, true},
		{"status_endpoint", m.StatusURI, false}, {"add_subject_endpoint", m.AddSubjectURI, false}, {"verification_endpoint", m.VerificationURI, false},
	} {
		if endpoint.uri == "" && !endpoint.needed {
			continue
		}
		if err := checkEndpoint(endpoint.uri, insecure); err != nil {
			return metadata{}, fmt.Errorf("its %s %w", endpoint.name, err)
		}
	}
	return m, nil
}

// checkEndpoint refuses a URL that our token must not be sent to.
func checkEndpoint(uri string, insecure bool) error {
	u, err := url.Parse(uri)
	switch {
	case uri == "":
		return errors.New("is missing")
	case err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		return errors.New("is not a URL")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (insecure || loopback.IsHost(u.Hostname())):
		return nil
	}
	return errors.New("is not an https URL")
}

func quote(text string) string { return fmt.Sprintf("%q", printable.Text(text, 200)) }

// configuration is a stream's (OpenID SSF 1.0, 8.1.1).
type configuration struct {
	ID          string   `json:"stream_id"`
	Issuer      string   `json:"iss"`
	Audience    texts    `json:"aud"`
	Delivery    delivery `json:"delivery"`
	Requested   []string `json:"events_requested"`
	Delivered   []string `json:"events_delivered"`
	MinVerify   seconds  `json:"min_verification_interval"`
	Inactivity  seconds  `json:"inactivity_timeout"`
	Description string   `json:"description"`
}

type delivery struct {
	Method   string `json:"method"`
	Endpoint string `json:"endpoint_url"`
}

// seconds is a JSON number of seconds, or whatever else, which counts as none.
type seconds time.Duration

// UnmarshalJSON implements [json.Unmarshaler].
func (s *seconds) UnmarshalJSON(data []byte) error {
	var number float64
	if json.Unmarshal(data, &number) == nil && number > 0 {
		*s = seconds(min(number, 1e6) * float64(time.Second))
	}
	return nil
}

// maxText bounds the texts of a stream's configuration, in bytes.
const maxText = 1 << 10

// readConfiguration reads one stream's configuration.
func readConfiguration(body []byte) (configuration, error) {
	var c configuration
	if err := json.Unmarshal(body, &c); err != nil {
		return configuration{}, errors.New("it is no stream's configuration")
	}
	texts := append([]string{c.ID, c.Issuer, c.Delivery.Endpoint}, c.Audience...)
	for _, text := range texts {
		if len(text) > maxText || printable.Line(text) != text {
			return configuration{}, errors.New("there is a text in it that is too long or cannot be printed")
		}
	}
	if c.ID == "" {
		return configuration{}, errors.New("its stream_id is missing")
	}
	return c, nil
}

// readConfigurations reads the list of our streams, which a transmitter with only one may give as that one.
func readConfigurations(body []byte) ([]configuration, error) {
	var list []json.RawMessage
	if json.Unmarshal(body, &list) != nil {
		one, err := readConfiguration(body)
		if err != nil {
			return nil, err
		}
		return []configuration{one}, nil
	}
	var all []configuration
	for _, raw := range list[:min(len(list), maxStreams)] {
		if c, err := readConfiguration(raw); err == nil {
			all = append(all, c)
		}
	}
	return all, nil
}

// maxStreams bounds the streams of ours that are looked through.
const maxStreams = 1000

// check refuses a stream from which nothing could come that is believed.
func (c configuration) check(issuer, audience string, insecure bool) error {
	switch {
	case c.Issuer != issuer:
		return fmt.Errorf("its iss is %s, not the issuer", quote(c.Issuer))
	case len(c.Audience) == 0:
		return errors.New("its aud is missing")
	case audience != "" && !contains(c.Audience, audience):
		return fmt.Errorf("its aud is %s, not the configured audience", quote(strings.Join(c.Audience, ", ")))
	case !c.polled():
		return fmt.Errorf("its delivery method is %s, not polling", quote(c.Delivery.Method))
	}
	if err := checkEndpoint(c.Delivery.Endpoint, insecure); err != nil {
		return fmt.Errorf("its endpoint_url %w", err)
	}
	return nil
}

func (c configuration) polled() bool {
	return c.Delivery.Method == methodPoll || c.Delivery.Method == methodPollOld
}

func contains(all []string, one string) bool {
	for _, text := range all {
		if text == one {
			return true
		}
	}
	return false
}

// streamStatus is a stream's (OpenID SSF 1.0, 8.1.2).
type streamStatus struct {
	Status string `json:"status"`
	Reason string `json:"reason"`
}

const statusEnabled = "enabled"

func readStatus(body []byte) (streamStatus, error) {
	var s streamStatus
	if err := json.Unmarshal(body, &s); err != nil {
		return streamStatus{}, errors.New("it is no stream's status")
	}
	if !s.known() {
		return streamStatus{}, fmt.Errorf("it is the unknown status %s", quote(s.Status))
	}
	return s, nil
}

func (s streamStatus) known() bool {
	return s.Status == statusEnabled || s.Status == "paused" || s.Status == "disabled"
}

// poll is a request for SETs (RFC 8936, 2.2).
type poll struct {
	MaxEvents         int                 `json:"maxEvents"`
	ReturnImmediately bool                `json:"returnImmediately"`
	Acks              []string            `json:"ack,omitempty"`
	Errors            map[string]setError `json:"setErrs,omitempty"`
}

// polled is the answer to a poll (RFC 8936, 2.3).
type polled struct {
	Sets map[string]string `json:"sets"`
	More bool              `json:"moreAvailable"`
}

// readPolled reads an answer to a poll. A SET that is no text is one that cannot be read, and refused.
func readPolled(body []byte) (polled, error) {
	var raw struct {
		Sets map[string]json.RawMessage `json:"sets"`
		More bool                       `json:"moreAvailable"`
	}
	if len(strings.TrimSpace(string(body))) == 0 {
		return polled{}, nil
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return polled{}, errors.New("it is no answer to a poll")
	}
	p := polled{Sets: make(map[string]string, len(raw.Sets)), More: raw.More}
	for jti, value := range raw.Sets {
		var compact string
		_ = json.Unmarshal(value, &compact) // "" is refused as no SET
		p.Sets[jti] = compact
	}
	return p, nil
}
