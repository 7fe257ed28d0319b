package assertion

import (
	"context"
	"github.com/credagent/credagent/testkit/workloadapi"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"testing"
	"time"
)

// svids is a Workload API with JWT-SVIDs.
type svids struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	token func(audience string) string
}

func (s svids) FetchJWTSVID(_ context.Context, in *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	return &workload.JWTSVIDResponse{Svids: []*workload.JWTSVID{{Svid: s.token(in.GetAudience()[0])}}}, nil
}

func TestSPIFFE(t *testing.T) {
	var audience, next string
	socket := workloadapi.Serve(t, svids{token: func(asked string) string {
		audience = asked
		return next
	}})
	configured := opened(t, variables(nil), `{"source":{"spiffe":{"socket":"`+socket+`"}},"audience":"https://login.example.com"}`)
	found := opened(t, variables(map[string]string{"SPIFFE_ENDPOINT_SOCKET": "unix://" + socket}), `{"source":{"spiffe":{}},"audience":"https://login.example.com"}`)
	for _, source := range []Source{configured, found} {
		next, audience = token(5*time.Minute), ""
		jwt, err := source.JWT(t.Context())
		if err != nil || jwt.Value.Reveal() != next || !jwt.NotAfter.IsZero() || audience != "https://login.example.com" {
			t.Errorf("%+v, %v, for %q", jwt, err, audience)
		}
	}
	for answer, want := range map[string]string{"": "an empty token", "canary-opaque": "not a signed JWT", token(-time.Hour): "it expired at"} {
		next = answer
		fails(t, configured, want)
	}
	fails(t, opened(t, variables(nil), `{"source":{"spiffe":null},"audience":"x"}`), "asking source spiffe: socket is not configured, and SPIFFE_ENDPOINT_SOCKET is not set")
}
