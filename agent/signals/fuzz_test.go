package signals

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// FuzzSET reads any text as a SET. What is accepted was signed by a key of the transmitter's; what is not has
// a code and a text that can be sent.
func FuzzSET(f *testing.F) {
	known := transmitterKeys(f)
	f.Add(signed(f, jose.RS256, signers()["rsa"], header("kid", "rsa"), goodClaims()))
	f.Add("eyJhbGciOiJub25lIiwidHlwIjoic2VjZXZlbnQrand0In0.e30.")
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := readSET(raw, "j1", known, expecting()); err != nil {
			checkRefusal(t, err)
		}
	})
}

// FuzzClaims reads any bytes as what a transmitter signed.
func FuzzClaims(f *testing.F) {
	plain, err := json.Marshal(goodClaims())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte(`{"iss":"https://tr","aud":"https://me","jti":"j1","iat":1,"sub_id":{"format":"complex","user":{"format":"aliases","identifiers":[{"format":"opaque","id":"x"}]}},"events":{"x":7}}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		x, err := readClaims(plain, "j1", expecting())
		if err != nil {
			checkRefusal(t, err)
			return
		}
		if x.jti != "j1" || x.at.IsZero() || x.event == "" && !strings.Contains(string(plain), `""`) {
			t.Errorf("accepted is %+v", x)
		}
		x.subject.clients(nil)
		x.subject.cannot([]string{"tenant"}, nil)
	})
}

func checkRefusal(t *testing.T, err error) {
	t.Helper()
	var refused *setError
	if errors.Is(err, errUnknownKey) {
		return
	}
	if !errors.As(err, &refused) || refused.Code == "" || refused.Description == "" || strings.ContainsAny(refused.Description, "\n\r\x00") {
		t.Errorf("the error is %q", err)
	}
}

// FuzzConfiguration reads any bytes as what the transmitter says of itself and of streams. Our token is sent to
// no address that is not safe.
func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://tr","jwks_uri":"https://tr/k","configuration_endpoint":"https://tr/c","verification_endpoint":"http://evil/v"}`))
	f.Add([]byte(`{"stream_id":"s","iss":"https://tr","aud":["a"],"delivery":{"method":"urn:ietf:rfc:8936","endpoint_url":"https://tr/p"},"events_delivered":["x"],"min_verification_interval":60,"inactivity_timeout":"x"}`))
	f.Add([]byte(`[{"stream_id":"s"},7]`))
	f.Add([]byte(`{"status":"paused","reason":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if m, err := readMetadata(body, "https://tr", false); err == nil {
			for _, uri := range []string{m.KeysURI, m.ConfigurationURI} {
				if checkEndpoint(uri, false) != nil {
					t.Errorf("%q is taken for an endpoint", uri)
				}
			}
		}
		if c, err := readConfiguration(body); err == nil && c.check("https://tr", "", false) == nil && (c.ID == "" || checkEndpoint(c.Delivery.Endpoint, false) != nil) {
			t.Errorf("accepted is %+v", c)
		}
		if all, err := readConfigurations(body); err == nil && len(all) > maxStreams {
			t.Errorf("%d streams", len(all))
		}
		if s, err := readStatus(body); err == nil && !s.known() {
			t.Errorf("accepted is %+v", s)
		}
	})
}

// FuzzPolled reads any bytes as the answer to a poll.
func FuzzPolled(f *testing.F) {
	f.Add([]byte(`{"sets":{"a":"x.y.z","b":7},"moreAvailable":true}`))
	f.Add([]byte(` `))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := readPolled(body)
		if err != nil && (len(p.Sets) > 0 || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%v with %d SETs", err, len(p.Sets))
		}
	})
}

// FuzzKeys reads any bytes as a transmitter's keys. None that is used is secret or too short.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		all, err := readKeys(body)
		if err != nil {
			return
		}
		for _, key := range all {
			if !key.IsPublic() || len(all) > maxKeys {
				t.Errorf("key %s of %d is used", key.KeyID, len(all))
			}
		}
	})
}
