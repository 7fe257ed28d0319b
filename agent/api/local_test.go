package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/peer"
)

// The users of these tests. None need exist.
const (
	ownerUser    = 990
	allowedUser  = 61001
	allowedGroup = 62001
	strangeUser  = 61009
	strangeGroup = 62009
)

// canary is the token of these tests. Only who may have it sees it.
const canary = "canary-token-77aa0c"

// tokens is a broker with a token "known" and one "waiting", which is not there yet.
type tokens struct {
	challenged []string
}

func (*tokens) Status() status.Status {
	return status.Status{Version: "test", Tokens: []status.Token{{Name: "known"}, {Name: "secretly"}}}
}

func (b *tokens) StatusFor(user int, groups []int) status.Status {
	s := status.Status{Version: "test"}
	for _, t := range b.Status().Tokens {
		if b.Allows(t.Name, user, groups) {
			s.Tokens = append(s.Tokens, t)
		}
	}
	return s
}

func (*tokens) Allows(token string, user int, groups []int) bool {
	allowed := user == allowedUser
	for _, group := range groups {
		allowed = allowed || group == allowedGroup
	}
	return allowed && (token == "known" || token == "waiting")
}

func (*tokens) TokenJSON(token string) ([]byte, error) {
	switch token {
	case "known":
		return []byte(`{"access_token":"` + canary + `"}` + "\n"), nil
	case "waiting":
		return nil, &agent.NotYetError{Token: token, RetryIn: 57 * time.Second}
	case "broken":
		return nil, errors.New("it cannot be rendered")
	}
	return nil, fmt.Errorf("token %q: %w", token, agent.ErrUnknownToken)
}

func (*tokens) Refresh(ctx context.Context, token string) (status.Refresh, error) {
	switch token {
	case "known":
		return status.Refresh{Token: token, Outcome: "success"}, nil
	case "waiting":
		return status.Refresh{}, &agent.HeldBackError{Token: token, Reason: policy.ServerAsked, RetryIn: 57 * time.Second}
	case "slow":
		return status.Refresh{Token: token, Outcome: status.Pending}, nil
	}
	return status.Refresh{}, fmt.Errorf("token %q: %w", token, agent.ErrUnknownToken)
}

func (b *tokens) Challenge(_ context.Context, token, wwwAuthenticate, tokenSHA256 string) error {
	switch {
	case token != "known" && token != "waiting":
		return fmt.Errorf("token %q: %w", token, agent.ErrUnknownToken)
	case !strings.HasPrefix(wwwAuthenticate, "Bearer "):
		return &agent.ChallengeError{Token: token, Reason: "it is not one"}
	}
	b.challenged = append(b.challenged, token+" "+wwwAuthenticate+" "+tokenSHA256)
	return nil
}

// call is a request, from a caller that the kernel has told about.
type call struct {
	method, path, kind, body string
}

func (c call) by(caller *peer.Peer, broker Broker) *httptest.ResponseRecorder {
	r := httptest.NewRequest(c.method, "http://credagent"+c.path, strings.NewReader(c.body))
	if c.kind != "" {
		r.Header.Set("Content-Type", c.kind)
	}
	if caller != nil {
		r = r.WithContext(withConn(r.Context(), &boundedConn{Conn: &peerConn{peer: *caller}}))
	}
	w := httptest.NewRecorder()
	Local(broker, ownerUser, slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
	return w
}

const goodChallenge = `{"www_authenticate":"Bearer error=\"insufficient_claims\", claims=\"e30\"","token_sha256":"00"}`

// callers are everybody there is, by what they may do.
var callers = map[string]map[string]*peer.Peer{
	"privileged": {
		"root":           {UID: 0, GIDs: []int{0}},
		"the agent":      {UID: ownerUser, GIDs: []int{strangeGroup}},
		"root's own gid": {UID: 0, GIDs: []int{strangeGroup}},
	},
	"permitted": {
		"a user":                 {UID: allowedUser, GIDs: []int{strangeGroup}},
		"by primary group":       {UID: strangeUser, GIDs: []int{allowedGroup}},
		"by supplementary group": {UID: strangeUser, GIDs: []int{strangeGroup, 62003, allowedGroup}},
	},
	"stranger": {
		"a stranger":              {UID: strangeUser, GIDs: []int{strangeGroup, 62003}},
		"in root's group":         {UID: strangeUser, GIDs: []int{0, ownerUser}},
		"of a group's number":     {UID: allowedGroup, GIDs: []int{allowedUser}},
		"unknown to the kernel":   nil,
		"nobody":                  {UID: 65534, GIDs: []int{65534}},
		"with no groups whatever": {UID: strangeUser},
	},
}

// TestAuthorization is the matrix of methods, paths, callers and tokens.
func TestAuthorization(t *testing.T) {
	type statuses struct{ known, unknown, waiting int }
	everybody := func(status int) map[string]statuses {
		same := statuses{status, status, status}
		return map[string]statuses{"privileged": same, "permitted": same, "stranger": same}
	}
	forbidden := statuses{403, 403, 403}
	token, refresh, challenge, state := "/v1/tokens/TOKEN", "/v1/tokens/TOKEN/refresh", "/v1/tokens/TOKEN/challenge", "/v1/status"
	read := map[string]statuses{"privileged": {200, 404, 503}, "permitted": {200, 403, 503}, "stranger": forbidden}
	seen := everybody(200)
	seen["stranger"] = forbidden
	matrix := map[string]map[string]statuses{
		"GET " + token:         read,
		"HEAD " + token:        read,
		"POST " + refresh:      {"privileged": {200, 404, 429}, "permitted": {200, 403, 429}, "stranger": forbidden},
		"POST " + challenge:    {"privileged": {202, 404, 202}, "permitted": {202, 403, 202}, "stranger": forbidden},
		"GET " + state:         seen,
		"HEAD " + state:        seen,
		"GET /":                everybody(404),
		"GET /v1/tokens":       everybody(404),
		"GET /v1/tokens/":      everybody(404),
		"GET " + token + "/":   everybody(404),
		"GET /metrics":         everybody(404),
		"POST " + token + "/x": everybody(404),
	}
	for _, path := range []string{token, refresh, challenge, state} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"} {
			if _, fine := matrix[method+" "+path]; !fine {
				matrix[method+" "+path] = everybody(405)
			}
		}
	}
	for route, byCaller := range matrix {
		method, path, _ := strings.Cut(route, " ")
		for kind, want := range byCaller {
			for name, caller := range callers[kind] {
				t.Run(strings.Join([]string{route, kind, name}, ", "), func(t *testing.T) {
					for token, status := range map[string]int{"known": want.known, "unknown": want.unknown, "waiting": want.waiting} {
						c := call{method, strings.ReplaceAll(path, "TOKEN", token), "application/json", goodChallenge}
						checkAnswer(t, c, c.by(caller, &tokens{}), status)
					}
				})
			}
		}
	}
}

// TestStatusIsOfWhatOneMayHave: who may not have a token does not learn that there is one.
func TestStatusIsOfWhatOneMayHave(t *testing.T) {
	for kind, sees := range map[string]string{"privileged": "known secretly", "permitted": "known", "stranger": ""} {
		for name, caller := range callers[kind] {
			got := call{"GET", "/v1/status", "", ""}.by(caller, &tokens{}).Body.String()
			for _, token := range []string{"known", "secretly"} {
				if strings.Contains(got, `"`+token+`"`) != strings.Contains(sees, token) {
					t.Errorf("%s, %s: %s", kind, name, got)
				}
			}
		}
	}
}

// checkAnswer checks what every answer has, beside its status.
func checkAnswer(t *testing.T, c call, got *httptest.ResponseRecorder, status int) {
	t.Helper()
	if got.Code != status {
		t.Errorf("%s %s: %d, want %d", c.method, c.path, got.Code, status)
	}
	header := got.Header()
	if header.Get("Cache-Control") != "no-store" || header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s: the header is %v", c.method, c.path, header)
	}
	if shown := strings.Contains(got.Body.String(), canary); shown != (status == 200 && strings.HasSuffix(c.path, "/known")) {
		t.Errorf("%s %s: the token is shown: %v", c.method, c.path, shown)
	}
	if late := header.Get("Retry-After") != ""; late != (status == 503 || status == 429) {
		t.Errorf("%s %s: %d with Retry-After %q", c.method, c.path, status, header.Get("Retry-After"))
	}
	if (status == 405) != (header.Get("Allow") != "") {
		t.Errorf("%s %s: %d with Allow %q", c.method, c.path, status, header.Get("Allow"))
	}
	if status < 400 {
		return
	}
	var p problem
	if err := json.Unmarshal(got.Body.Bytes(), &p); err != nil || p.Code == "" || p.Message == "" {
		t.Errorf("%s %s: %d with the body %q", c.method, c.path, status, got.Body)
	}
}

// TestAStrangerLearnsNothing: what a stranger is told of a token that there is and of one that there
// is not is the same but for the name.
func TestAStrangerLearnsNothing(t *testing.T) {
	stranger := callers["stranger"]["a stranger"]
	for _, c := range []call{{"GET", "", "", ""}, {"POST", "/refresh", "", ""}, {"POST", "/challenge", "", goodChallenge}} {
		answers := map[string]bool{}
		for _, token := range []string{"known", "waiting", "unknown"} {
			asked := c
			asked.path = "/v1/tokens/" + token + c.path
			got := asked.by(stranger, &tokens{})
			got.Header().Del("Content-Length") // of a message with the name in it
			answers[fmt.Sprint(got.Code, got.Header(), strings.ReplaceAll(got.Body.String(), token, "TOKEN"))] = true
		}
		if len(answers) != 1 {
			t.Errorf("%s %s: %v", c.method, c.path, answers)
		}
	}
}

func TestAnswers(t *testing.T) {
	root := callers["privileged"]["root"]
	tests := []struct {
		name string
		call call
		code int
		want string // the whole body
	}{
		{"a token", call{"GET", "/v1/tokens/known", "", ""}, 200, `{"access_token":"` + canary + `"}`},
		{"no token yet", call{"GET", "/v1/tokens/waiting", "", ""}, 503,
			`{"error":"no_token_yet","message":"token \"waiting\": no token yet; ask again in 57s","retry_after":57}`},
		{"an unknown token", call{"GET", "/v1/tokens/a%2Fb", "", ""}, 404,
			`{"error":"unknown_token","message":"token \"a/b\": no such token"}`},
		{"a token that cannot be shown", call{"GET", "/v1/tokens/broken", "", ""}, 500,
			`{"error":"internal","message":"it cannot be rendered"}`},
		{"a refresh", call{"POST", "/v1/tokens/known/refresh", "", ""}, 200, `{"token":"known","outcome":"success"}`},
		{"a refresh with a body", call{"POST", "/v1/tokens/known/refresh", "text/plain", "now, please"}, 200,
			`{"token":"known","outcome":"success"}`},
		{"a refresh without an answer yet", call{"POST", "/v1/tokens/slow/refresh", "", ""}, 202,
			`{"token":"slow","outcome":"pending"}`},
		{"a refresh that is held back", call{"POST", "/v1/tokens/waiting/refresh", "", ""}, 429,
			`{"error":"held_back","message":"refreshing token \"waiting\": the server asked for no requests now; ask again in 57s","retry_after":57}`},
		{"a challenge", call{"POST", "/v1/tokens/known/challenge", "application/json; charset=utf-8", goodChallenge}, 202,
			`{"token":"known","accepted":true}`},
		{"a challenge of no type", call{"POST", "/v1/tokens/known/challenge", "", goodChallenge}, 202, `{"token":"known","accepted":true}`},
		{"a challenge that is not valid", call{"POST", "/v1/tokens/known/challenge", "", `{"www_authenticate":"Basic"}`}, 400,
			`{"error":"invalid_challenge","message":"claims challenge for token \"known\" refused: it is not one"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := test.call.by(root, &tokens{})
			if got.Code != test.code || strings.TrimSpace(got.Body.String()) != test.want {
				t.Errorf("%d %s, want %d %s", got.Code, got.Body, test.code, test.want)
			}
		})
	}
}

func TestMalformedChallenges(t *testing.T) {
	root := callers["privileged"]["root"]
	tests := []struct {
		name, kind, body string
		code             int
	}{
		{"nothing", "", "", 400},
		{"null", "", "null", 400},
		{"a list", "", "[]", 400},
		{"a string", "", `"Bearer"`, 400},
		{"half an object", "", `{"www_authenticate":"Bearer x"`, 400},
		{"two objects", "", goodChallenge + goodChallenge, 400},
		{"something behind it", "", goodChallenge + "x", 400},
		{"a key too many", "", `{"www_authenticate":"Bearer x","token":"y"}`, 400},
		{"a misspelt key", "", `{"www-authenticate":"Bearer x"}`, 400},
		{"no challenge", "", `{"token_sha256":"00"}`, 400},
		{"an empty challenge", "", `{"www_authenticate":""}`, 400},
		{"a number for a challenge", "", `{"www_authenticate":1}`, 400},
		{"a number for a digest", "", `{"www_authenticate":"Bearer x","token_sha256":1}`, 400},
		{"a form", "application/x-www-form-urlencoded", "www_authenticate=Bearer", 415},
		{"no type at all", "application", goodChallenge, 415},
		{"a damaged type", ";;", goodChallenge, 415},
		{"the largest body", "", `{"www_authenticate":"` + strings.Repeat("x", mostBody-len(`{"www_authenticate":""}`)) + `"}`, 400},
		{"one byte more", "", `{"www_authenticate":"` + strings.Repeat("x", mostBody+1-len(`{"www_authenticate":""}`)) + `"}`, 413},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			broker := &tokens{}
			c := call{"POST", "/v1/tokens/known/challenge", test.kind, test.body}
			checkAnswer(t, c, c.by(root, broker), test.code)
			if len(broker.challenged) != 0 {
				t.Errorf("it was handed in: %q", broker.challenged)
			}
		})
	}
	c := call{"POST", "/v1/tokens/known/refresh", "", strings.Repeat("x", mostBody+1)}
	checkAnswer(t, c, c.by(root, &tokens{}), 413)
}

func TestAChallengeArrivesWhole(t *testing.T) {
	broker := &tokens{}
	call{"POST", "/v1/tokens/waiting/challenge", "", goodChallenge}.by(callers["permitted"]["a user"], broker)
	const want = `waiting Bearer error="insufficient_claims", claims="e30" 00`
	if len(broker.challenged) != 1 || broker.challenged[0] != want {
		t.Errorf("the agent was handed %q, want %q", broker.challenged, want)
	}
}

func FuzzReadChallenge(f *testing.F) {
	for _, seed := range []struct{ kind, body string }{
		{"", goodChallenge},
		{"application/json; charset=utf-8", `{"www_authenticate":"Bearer \ud800","token_sha256":""}`},
		{"text/plain", goodChallenge},
		{"", `{"www_authenticate":"a","www_authenticate":"b"}`},
		{"", `{"WWW_Authenticate":"a"} `},
		{"", "null"},
		{"", "{}{}"},
		{"", "\x00"},
	} {
		f.Add(seed.kind, []byte(seed.body))
	}
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		got, refused := readChallenge(kind, body)
		if refused != nil {
			if refused.status != 400 && refused.status != 415 || bytes.ContainsAny([]byte(refused.Message), "\x00\n") {
				t.Errorf("refused with %+v", refused)
			}
			return
		}
		if got.WWWAuthenticate == "" {
			t.Error("a challenge of nothing was read")
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if same, refused := readChallenge("application/json", again); refused != nil || same != got {
			t.Errorf("%q was read as %+v, and that as %+v, %+v", body, got, same, refused)
		}
	})
}
