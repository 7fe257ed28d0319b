package api

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/status"
)

var pageNow = time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)

func in(d time.Duration) *time.Time { return status.Instant(pageNow.Add(d)) }

// fixed is a source whose status a test sets.
type fixed struct {
	mu     sync.Mutex
	status status.Status // guarded by mu, as is asked
	asked  int
}

func (f *fixed) Alive() bool { return true }

func (f *fixed) Status() status.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	s := f.status
	if s.Now.IsZero() {
		s.Now = time.Now()
	}
	return s
}

func (f *fixed) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *fixed) set(s status.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = s
}

func get(t *testing.T, s status.Status, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(&fixed{status: s}, http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// shown renders a status and returns the text that a reader sees, with single blanks.
func shown(t *testing.T, s status.Status) string {
	t.Helper()
	w := get(t, s, "/")
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(w.Body.String(), " ")
	return strings.Join(strings.Fields(html.UnescapeString(text)), " ")
}

// pageCase is a status and what of it can be read.
type pageCase struct {
	status status.Status
	want   []string
}

func checkPage(t *testing.T, cases map[string]pageCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			text := shown(t, tc.status)
			for _, want := range tc.want {
				if !strings.Contains(text, want) {
					t.Errorf("the page does not show %q:\n%s", want, text)
				}
			}
		})
	}
}

// with is a status of one token that is well but for a change.
func with(change func(*status.Token)) status.Status {
	token := status.Token{
		Name: "graph", Client: "payments", Valid: true, Scope: "read write", Requests: 14,
		AcquiredAt: in(-20 * time.Minute), Expiry: in(40 * time.Minute), RefreshAt: in(10*time.Minute + 5*time.Second),
	}
	change(&token)
	return status.Status{Now: pageNow, Tokens: []status.Token{token}}
}

func TestPageShowsTokens(t *testing.T) {
	gate := func(g status.Gate) status.Status {
		s := with(func(t *status.Token) { t.ConsecutiveFailures = 1; t.RefreshAt = in(time.Minute) })
		s.Clients = []status.Client{{Name: "payments", Gate: g}}
		return s
	}
	checkPage(t, map[string]pageCase{
		"a token": {with(func(*status.Token) {}), []string{
			"graph payments refresh 07:18:14 06:48:09 07:48:09 UTC valid , expires in 40m 0s read write",
			"next refresh in 10m 5s expires in 40m 0s acquired 20m 0s ago requests 14", "1 of 1 token valid, next request in 10m 5s",
		}},
		"a failing one": {with(func(t *status.Token) {
			t.ConsecutiveFailures, t.LastError, t.LastErrorAt, t.Advice = 2, "invalid_client (401)", in(-5*time.Second), "renew the secret"
		}), []string{"graph payments next try 07:18:14 06:48:09 07:48:09 UTC valid, not refreshed , expires in 40m 0s read write", "next next try in 10m 5s", "14; 2 failures in a row", "Waits 1 token graph of client payments not refreshed yet , valid, expires in 40m 0s , 2 failures, next try in 10m 5s invalid_client (401) 5s ago renew the secret"}},
		"an expired one": {with(func(t *status.Token) { t.Valid, t.Expiry, t.RefreshAt = false, in(-time.Minute), in(-time.Minute) }), []string{
			"UTC expired 1m 0s ago read write", "next asking for a new one expired 1m 0s ago", "0 of 1 token valid",
		}},
		"a challenged one": {with(func(t *status.Token) {
			t.ChallengePending, t.LastChallengeAt, t.LastChallengeOutcome = true, in(-2*time.Second), "accepted"
		}), []string{"next answering a claims challenge, refresh in 10m 5s", "claims challenge accepted 2s ago"}},
		"none yet": {with(func(t *status.Token) {
			*t = status.Token{Name: "graph", Client: "payments", ConsecutiveFailures: 1, Requests: 1, RefreshAt: in(time.Second)}
		}), []string{
			"graph payments no token yet next next try in 1s expires – acquired never requests 1; 1 failure in a row",
		}},
		"a gate that the server closed": {gate(status.Gate{BlockedUntil: in(2 * time.Minute), Failures: 1}), []string{
			"held back by the server, next request in 2m 0s", "gate closed : the server asked to wait, open in 2m 0s , 1 failure",
		}},
		"a gate that backs off": {gate(status.Gate{RetryAt: in(time.Minute), Failures: 3}), []string{"next try in 1m 0s", "gate backing off , open in 1m 0s , 3 failures"}},
		"an open gate":          {gate(status.Gate{BlockedUntil: in(-time.Minute), RetryAt: in(-time.Second)}), []string{"gate open endpoint not known yet"}},
	})
}

func TestPageShowsTheRest(t *testing.T) {
	checkPage(t, map[string]pageCase{
		"credentials": {status.Status{Now: pageNow, Clients: []status.Client{{
			Name: "c", ClientID: "id", TokenEndpoint: "https://login.example.com/token", ClockSkew: -90,
			Credentials: []status.Credential{
				{Name: "primary", Provider: "certcred", Identity: "sha256:AB", NotAfter: in(-time.Hour), Problem: "the server refuses it"},
				{Name: "fallback", InUse: true, Provider: "secretcred", NotAfter: in(340*24*time.Hour + 5*time.Hour)},
			},
		}}}, []string{
			"c id gate open endpoint https://login.example.com/token clocks the server's is 1m 30s behind " +
				"primary certcred, not in use sha256:AB not after 2031-05-06, 1h 0m ago the server refuses it " +
				"fallback secretcred, in use not after 2032-04-10, in 340d 5h",
		}},
		"one credential":     {status.Status{Now: pageNow, Clients: []status.Client{{Name: "c", Credentials: []status.Credential{{Name: "primary", InUse: true, Provider: "jwtcred"}}}}}, []string{"not known yet credential jwtcred Sinks"}},
		"a clock ahead":      {status.Status{Now: pageNow, Clients: []status.Client{{Name: "c", ClockSkew: 420}}}, []string{"clocks the server's is 7m 0s ahead"}},
		"a clock of no note": {status.Status{Now: pageNow, Clients: []status.Client{{Name: "c", ClockSkew: 59.9}}}, []string{"not known yet"}},
		"a failed reload": {status.Status{Now: pageNow, Ready: true, Reload: &status.Reload{At: *in(-time.Minute), Error: "c.yaml:1:1: unknown key"}}, []string{
			"Needs a person 1 configuration was not reloaded, the running one stays c.yaml:1:1: unknown key 1m 0s ago correct the file",
		}},
		"a good reload": {status.Status{Now: pageNow, Ready: true, Reload: &status.Reload{At: *in(-time.Minute), Successful: true}}, []string{"0 of 0 tokens valid Filter Tokens"}},
		"sinks": {status.Status{Now: pageNow, Tokens: []status.Token{{Name: "never"}}, Sinks: []status.Sink{
			{Path: "/a", Tokens: []string{"x", "y"}, Holds: true, LastSuccess: in(-time.Hour)},
			{Path: "/b", Tokens: []string{"x", "never"}, WaitsFor: []string{"never"}},
			{Path: "/d", Tokens: []string{"x"}, Holds: true, ExpiredAt: in(-20 * time.Minute), LastSuccess: in(-time.Hour)},
			{Path: "/e", Tokens: []string{"x"}},
			{Path: "/c", Tokens: []string{"x"}, LastError: "no space left", LastErrorAt: in(-time.Second), RetryAt: in(time.Second)},
		}}, []string{
			"/c shows x cannot be written written never no space left 1s ago tried again in 1s",
			"/d shows x its token expired 20m 0s ago written 1h 0m ago", "/b shows x , never waits for never written never",
			"/e shows x does not hold the newest written never", "/a shows x , y holds the newest written 1h 0m ago",
		}},
		"not ready": {status.Status{Now: pageNow, Version: "v1.2", Source: "/etc/c.yaml", StartedAt: pageNow.Add(-49 * time.Hour), NotReady: []string{"one", "two"}}, []string{
			"v1.2 /etc/c.yaml started 2d 1h ago Not ready 0 of 0 tokens valid", "Why it is not ready one two", "Tokens None is configured.", "Clients None is configured.", "Sinks None is configured.",
		}},
		"ready": {status.Status{Now: pageNow, Ready: true}, []string{"Ready 0 of 0 tokens valid"}},
	})
}

// TestPageBeginsWithWhatNeedsAPerson: of many tokens the refused one comes first, with links to itself and
// to the file that has no valid token; then the throttled one, and the others in a line each.
func TestPageBeginsWithWhatNeedsAPerson(t *testing.T) {
	s := status.Status{Now: pageNow, Clients: []status.Client{{Name: "reports", Gate: status.Gate{BlockedUntil: in(time.Minute)}}, {Name: "billing"}}}
	for i := range 39 {
		s.Tokens = append(s.Tokens, status.Token{Name: fmt.Sprint("well-", i), Client: "payments", Valid: true, AcquiredAt: in(-time.Minute), Expiry: in(time.Hour), RefreshAt: in(time.Minute)})
	}
	s.Tokens = append(s.Tokens,
		status.Token{Name: "throttled", Client: "reports", Valid: true, AcquiredAt: in(-time.Hour), Expiry: in(time.Hour), RefreshAt: in(time.Second), LastOutcome: "throttled", LastError: "HTTP 429", ConsecutiveFailures: 1},
		status.Token{Name: "refused", Client: "billing", AcquiredAt: in(-time.Hour), Expiry: in(-time.Minute), LastOutcome: "credential", LastError: "invalid_client (401)", ConsecutiveFailures: 7, Advice: "renew the secret"},
	)
	s.Sinks = []status.Sink{{Path: "/run/well", Holds: true, Tokens: []string{"well-1"}}, {Path: "/run/t", Holds: true, Tokens: []string{"refused"}, ExpiredAt: in(-time.Minute)}}
	page := get(t, s, "/").Body.String()
	at := 0
	for _, want := range []string{
		`<section class="group is-bad" aria-labelledby="act">`, `token <a href="#token-refused">refused</a>`, `<a href="#client-billing">billing</a>`,
		`<strong class="bad">refused by the server</strong>`, "invalid_client (401)", `<a href="#sink-.2frun.2ft">/run/t</a>`, "renew the secret",
		`operations.md#the-server-refuses"`, `<section class="group is-warn" aria-labelledby="wait">`, `<a href="#token-throttled">`, `id="filter"`,
		`<details class="token item is-expired at-bad" id="token-refused">`, `<details class="token item is-failing at-warn" id="token-throttled">`,
		`<details class="token item is-good at-good" id="token-well-0">`, `id="client-billing"`, `id="client-reports"`, `id="sink-.2frun.2ft"`, `id="sink-.2frun.2fwell"`,
	} {
		next := strings.Index(page[at:], want)
		if next < 0 {
			t.Fatalf("after the first %d bytes the page has no %s", at, want)
		}
		at += next
	}
}

// TestAnchor: names that differ have other ids, without what means something to HTML or a URL.
func TestAnchor(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"", "graph", "Graph", "gr.aph", "gr/aph", "gr.2faph", "gr aph", `"><b>`, "ünïcödé", "\xff", "-", "_", "a-b", "a_b", "#", "%23"} {
		id := anchor("token", name)
		if !regexp.MustCompile(`^token-[A-Za-z0-9_.-]*$`).MatchString(id) {
			t.Errorf("%q has the id %q", name, id)
		}
		if other, taken := seen[id]; taken {
			t.Errorf("%q and %q have the id %q", name, other, id)
		}
		seen[id] = name
	}
}

// TestPageDrawsALife: the marks are where the times say.
func TestPageDrawsALife(t *testing.T) {
	life := status.Token{Name: "graph", Valid: true, AcquiredAt: in(-25 * time.Minute), Expiry: in(75 * time.Minute), RefreshAt: in(55 * time.Minute)}
	page := get(t, status.Status{Now: pageNow, Tokens: []status.Token{life}}, "/").Body.String()
	for _, want := range []string{
		fmt.Sprintf(`data-from="%d" data-to="%d"`, life.AcquiredAt.UnixMilli(), life.Expiry.UnixMilli()),
		`<svg class="passed" y="18" width="25.00%"`,
		`<circle class="now" cx="25.00%"`,
		`<line class="mark" x1="80.00%" x2="80.00%"`,
		`<text class="label" x="80.00%" y="9" text-anchor="end">refresh 08:03:09</text>`,
		`aria-label="25.00% of the life of graph has passed, the next request is planned at 80.00%"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	life.AcquiredAt, life.RefreshAt = in(-30*time.Hour), in(-28*time.Hour)
	page = get(t, status.Status{Now: pageNow, Tokens: []status.Token{life}}, "/").Body.String()
	for _, want := range []string{"<span>5 May 01:08</span><span>6 May 08:23 UTC</span>", `text-anchor="end">next try 6 May 07:08`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of a long life has no %s", want)
		}
	}
}

// fill sets every string in v to text, every number to one, every list to one item, and every
// instant to one.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Float64:
		v.SetFloat(1000)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text)
	case reflect.Struct:
		if at, ok := v.Addr().Interface().(*time.Time); ok {
			*at = pageNow
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text)
		}
	}
}

// TestPageEscapes puts markup into everything that a status can hold.
func TestPageEscapes(t *testing.T) {
	for _, nasty := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onload='alert(1)`, `</svg><svg onload=alert(1)>`,
		`--><b>`, "{{.}}", "javascript:alert(1)", "\x00\xff\u2028</title>",
	} {
		var s status.Status
		fill(reflect.ValueOf(&s).Elem(), nasty)
		page := get(t, s, "/").Body.String()
		if got := strings.Count(page, "<script"); got != 1 {
			t.Errorf("%q makes %d scripts", nasty, got)
		}
		for _, markup := range []string{"<img src=x", "<b>", "<svg onload", "' onload='", `href="javascript`, "</title></"} {
			if strings.Contains(page, markup) {
				t.Errorf("%q makes %s", nasty, markup)
			}
		}
		// Nothing of what a status holds is in a tag, where other rules hold, but for the label.
		for _, tag := range regexp.MustCompile(`<[a-zA-Z][^>]*>`).FindAllString(page, -1) {
			if strings.Contains(tag, "alert(1)") && !strings.Contains(tag, "aria-label=") {
				t.Errorf("%q is in the tag %s", nasty, tag)
			}
		}
	}
}

func TestPageIsItsOwn(t *testing.T) {
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/assets/status.css": "text/css; charset=utf-8",
		"/assets/status.js": "text/javascript; charset=utf-8", "/assets/icon.svg": "image/svg+xml",
	} {
		w := get(t, status.Status{Now: pageNow, Tokens: []status.Token{{Name: "graph"}}}, path)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != kind {
			t.Errorf("%s: status %d, %q", path, w.Code, w.Header().Get("Content-Type"))
		}
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q", path, policy)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		// A link that a reader may follow loads nothing, and tells nobody whence he comes.
		manual := regexp.MustCompile(`<a href="https://github\.com/credagent/credagent/blob/main/docs/operations\.md#[a-z-]+" rel="noreferrer noopener">`)
		for _, foreign := range []string{"http://", "https://", "style=", "@import", "url(", "onclick", "eval("} {
			text := manual.ReplaceAllString(strings.ReplaceAll(w.Body.String(), "http://www.w3.org/2000/svg", ""), "")
			if strings.Contains(text, foreign) {
				t.Errorf("%s has %q", path, foreign)
			}
		}
	}
	for _, path := range []string{"/assets/", "/assets/page.html", "/assets/status.html", "/index.html", "/x"} {
		if w := get(t, status.Status{}, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: status %d", path, w.Code)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		w := httptest.NewRecorder()
		Handler(&fixed{}, http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: status %d", method, w.Code)
		}
	}
}

// BenchmarkPage renders a page of many tokens.
func BenchmarkPage(b *testing.B) {
	s := status.Status{Now: pageNow}
	for i := range 100 {
		s.Tokens = append(s.Tokens, status.Token{Name: fmt.Sprint(i), AcquiredAt: in(-time.Hour), Expiry: in(time.Hour), RefreshAt: in(time.Minute)})
	}
	handler := Handler(&fixed{status: s}, http.NotFoundHandler())
	for b.Loop() {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
}
