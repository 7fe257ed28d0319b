package assertion

import (
	"testing"
	"time"
)

func TestGitHub(t *testing.T) {
	kind := servedKinds()["github"]
	p := newPlatform(t, kind.good(token(time.Hour)))
	h := kind.host(t, p)
	for audience, want := range map[string]string{
		"":                                 "api-version=2.0",
		`,"audience":"api://x&y/.default"`: "api-version=2.0&audience=api%3A%2F%2Fx%26y%2F.default",
	} {
		p.asked = nil
		if _, err := opened(t, h, `{"source":{"github":{}}`+audience+`}`).JWT(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := p.asked[0]
		if r.Method != "GET" || r.URL.Path != "/idtoken" || r.URL.RawQuery != want || r.Header.Get("Authorization") != "Bearer canary-request-token" {
			t.Errorf("it was asked %s %s, %v", r.Method, r.URL, r.Header)
		}
	}
}

func TestGitHubElsewhere(t *testing.T) {
	for name, tc := range map[string]struct{ url, token, want string }{
		"no job":         {"", "", "this is no job of GitHub Actions"},
		"no permission":  {"https://127.0.0.1:1", "", "id-token: write"},
		"no URL":         {"canary-canary", "t", "holds no URL"},
		"plain HTTP":     {"http://runner.example/canary-x", "t", "plain http"},
		"metadata":       {"https://169.254.169.254/canary-x", "t", "link-local"},
		"metadata, 6":    {"https://[fe80::1]/canary-x", "t", "link-local"},
		"metadata, 4in6": {"https://[::ffff:169.254.169.254]/canary-x", "t", "link-local"},
	} {
		t.Run(name, func(t *testing.T) {
			h := variables(map[string]string{githubURL: tc.url, githubToken: tc.token})
			fails(t, opened(t, h, `{"source":{"github":{}}}`), tc.want)
		})
	}
}

func TestGitLab(t *testing.T) {
	want := token(time.Hour)
	h := variables(map[string]string{"GITLAB_OIDC_TOKEN": want + "\n", "OWN": want, "OLD": token(-time.Hour), "NONE": "canary-secret"})
	for name, config := range map[string]string{"by default": `{}`, "by name": `{"token_env":"OWN"}`} {
		jwt, err := opened(t, h, `{"source":{"gitlab":`+config+`}}`).JWT(t.Context())
		if err != nil || jwt.Value.Reveal() != want || jwt.NotAfter.IsZero() {
			t.Errorf("%s: %+v, %v", name, jwt, err)
		}
	}
	for name, want := range map[string]string{"canary-name": "not set or empty", "OLD": "give the job a longer timeout", "NONE": "not a signed JWT"} {
		fails(t, opened(t, h, `{"source":{"gitlab":{"token_env":"`+name+`"}}}`), want)
	}
}

// Names are resolved before an address is judged, so none leads where it should not.
func TestAddressesAreJudged(t *testing.T) {
	for name, tc := range map[string]struct {
		near    bool
		address string
		allowed bool
	}{
		"near, loopback":        {true, "127.0.0.1:80", true},
		"near, loopback, 6":     {true, "[::1]:80", true},
		"near, link-local":      {true, "169.254.169.254:80", true},
		"near, link-local, 6":   {true, "[fe80::1%eth0]:80", true},
		"near, elsewhere":       {true, "192.0.2.1:80", false},
		"near, no address":      {true, "metadata", false},
		"far, elsewhere":        {false, "192.0.2.1:443", true},
		"far, loopback":         {false, "127.0.0.1:443", true},
		"far, link-local":       {false, "169.254.169.254:443", false},
		"far, link-local, 6":    {false, "[fe80::1%eth0]:443", false},
		"far, link-local, 4in6": {false, "[::ffff:169.254.169.254]:443", false},
	} {
		if err := (question{near: tc.near}).mayReach(tc.address); (err == nil) != tc.allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
