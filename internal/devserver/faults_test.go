package devserver_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

func TestParseFault(t *testing.T) {
	tests := []struct {
		text string
		want devserver.Fault
	}{
		{"ok*2", devserver.Fault{Kind: devserver.OK, Count: 2}},
		{"throttle", devserver.Fault{Kind: devserver.Throttle, RetryAfter: "5"}},
		{"throttle=7*2", devserver.Fault{Kind: devserver.Throttle, RetryAfter: "7", Count: 2}},
		{"throttle=none", devserver.Fault{Kind: devserver.Throttle}},
		{"throttle=Wed, 21 Oct 2015 07:28:00 GMT", devserver.Fault{Kind: devserver.Throttle, RetryAfter: "Wed, 21 Oct 2015 07:28:00 GMT"}},
		{"throttle_date=7", devserver.Fault{Kind: devserver.ThrottleDate, Delay: 7 * time.Second}},
		{"outage*3", devserver.Fault{Kind: devserver.Outage, Status: 503, Count: 3}},
		{"outage=502,10", devserver.Fault{Kind: devserver.Outage, Status: 502, RetryAfter: "10"}},
		{"slow=1m30s", devserver.Fault{Kind: devserver.Slow, Delay: 90 * time.Second}},
		{"stall*0", devserver.Fault{Kind: devserver.Stall}},
		{"huge=1000", devserver.Fault{Kind: devserver.Huge, Size: 1000}},
		{"redirect", devserver.Fault{Kind: devserver.Redirect, Status: 302}},
		{"redirect=307,https://elsewhere/", devserver.Fault{Kind: devserver.Redirect, Status: 307, Location: "https://elsewhere/"}},
		{"redirect=https://elsewhere/a,b", devserver.Fault{Kind: devserver.Redirect, Status: 302, Location: "https://elsewhere/a,b"}},
		{"refuse", devserver.Fault{Kind: devserver.Refuse, Error: "invalid_client"}},
		{"refuse=invalid_grant,400,AADSTS53003", devserver.Fault{Kind: devserver.Refuse, Error: "invalid_grant", Status: 400, AADSTS: 53003}},
		{"expires_in", devserver.Fault{Kind: devserver.ExpiresIn, Body: "string"}},
		{"expires_in=-1", devserver.Fault{Kind: devserver.ExpiresIn, Body: "-1"}},
		{`body={"a":"*"}*1`, devserver.Fault{Kind: devserver.Body, Body: `{"a":"*"}`, Count: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			if got, err := devserver.ParseFault(tt.text); err != nil || got != tt.want {
				t.Errorf("ParseFault = %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestParseFaultRefuses(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", `there is no fault ""`},
		{"otage", `there is no fault "otage", only ok, throttle`},
		{"outage*x", "there is no fault"},
		{"outage*99999999999999999999", "too large"},
		{"outage=200", "not one from 500 to 599"},
		{"outage=+503", "not an HTTP status"},
		{"stall=1", "takes no argument"},
		{"slow=", "not a duration above zero"},
		{"slow=-2s", "not a duration above zero"},
		{"slow=fast", "not a duration above zero"},
		{"throttle=", "cannot be sent"},
		{"throttle=7*x", "cannot be sent"},
		{"throttle=7\n", "cannot be sent"},
		{"refuse=a,400,b", "not an HTTP status"},
		{"refuse=a,400,1,2", "not an OAuth error code"},
		{"refuse=\"", "not an OAuth error code"},
		{"redirect=200,https://x", "not one from 300 to 399"},
		{"redirect=%", "not a URL"},
		{"huge=0", "not a number of bytes"},
		{"expires_in=soon", "is not JSON, nor string, negative"},
		{"token_type=", "missing"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			if _, err := devserver.ParseFault(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestFaultsAreExplained(t *testing.T) {
	for _, help := range devserver.Faults() {
		fault, err := devserver.ParseFault(help.Name)
		if err != nil || help.Help == "" {
			t.Errorf("fault %q: help %q, error %v", help.Name, help.Help, err)
			continue
		}
		if takes := strings.Contains(fault.String(), "="); takes != (help.Arg != "") {
			t.Errorf("fault %q: ARG %q, but it is written %q", help.Name, help.Arg, fault)
		}
		if again, err := devserver.ParseFault(fault.String()); err != nil || again != fault {
			t.Errorf("fault %q does not come back: %+v, %v", help.Name, again, err)
		}
	}
}

func TestInjectRefuses(t *testing.T) {
	tests := []struct {
		name  string
		fault devserver.Fault
		want  string
	}{
		{"unknown kind", devserver.Fault{Kind: "otage"}, "there is no such fault"},
		{"no kind", devserver.Fault{}, "there is no such fault"},
		{"negative count", devserver.Fault{Kind: devserver.Stall, Count: -1}, "count -1 is negative"},
		{"negative delay", devserver.Fault{Kind: devserver.Slow, Delay: -1}, "negative"},
		{"negative size", devserver.Fault{Kind: devserver.Huge, Size: -1}, "negative"},
		{"status", devserver.Fault{Kind: devserver.Outage, Status: 42}, "not one from 500 to 599"},
		{"line break", devserver.Fault{Kind: devserver.Throttle, RetryAfter: "1\r\n"}, "cannot be sent"},
		{"no JSON", devserver.Fault{Kind: devserver.RefreshIn, Body: "{"}, "is not JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := start(t, devserver.Options{})
			if err := server.Inject(tt.fault); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Inject: %v, want %q in it", err, tt.want)
			}
			if _, err := devserver.New(devserver.Options{Faults: []devserver.Fault{tt.fault}}); err == nil {
				t.Error("New takes it")
			}
		})
	}
}

// noRedirects shows a redirect instead of following it.
func noRedirects() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func TestAnsweredFaults(t *testing.T) {
	const jsonType = "application/json"
	tests := []struct {
		fault      string
		status     int
		retryAfter string
		mime       string
		body       string // part of it
		outcome    string
	}{
		{"throttle=7", 429, "7", jsonType, "temporarily_unavailable", "throttle"},
		{"throttle=none", 429, "", jsonType, "temporarily_unavailable", "throttle"},
		{"throttle=soon", 429, "soon", jsonType, "temporarily_unavailable", "throttle"},
		{"outage", 503, "", "text/html", "<html>", "outage"},
		{"outage=502,9", 502, "9", "text/html", "<html>", "outage"},
		{"refuse", 401, "", jsonType, `"invalid_client"`, "invalid_client"},
		{"refuse=unauthorized_client", 400, "", jsonType, `"unauthorized_client"`, "unauthorized_client"},
		{"refuse=invalid_grant,403,53003", 403, "", jsonType, "AADSTS53003", "invalid_grant"},
		{"garbage", 200, "", "text/html", "<html>", "garbage"},
		{"empty", 200, "", jsonType, "", "empty"},
		{"body={}", 200, "", jsonType, "{}", "body"},
		{"huge=1000", 200, "", jsonType, strings.Repeat("A", 900), "huge"},
		{"redirect=303,https://elsewhere/", 303, "", "text/plain", "", "redirect"},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
			mustInject(t, server, tt.fault+"*1")
			got := mustDo(t, noRedirects(), newRequest(t, server.TokenURL(), form()))
			if got.status != tt.status || got.header.Get("Retry-After") != tt.retryAfter || !strings.HasPrefix(got.header.Get("Content-Type"), tt.mime) {
				t.Errorf("answer = %d %v", got.status, got.header)
			}
			if !strings.Contains(got.body, tt.body) || (tt.body == "" && got.body != "") {
				t.Errorf("body = %q, want %q", got.body, tt.body)
			}
			entry := lastRequest(t, server)
			if entry.Outcome != tt.outcome || entry.Status != tt.status || entry.RetryAfter != tt.retryAfter || !strings.HasPrefix(entry.Fault, strings.SplitN(tt.fault, ",", 2)[0]) {
				t.Errorf("log = %+v", entry)
			}
			if after := mustPost(t, server.TokenURL(), form()); after.status != 200 {
				t.Errorf("the request after the fault got %d", after.status)
			}
		})
	}
}

func TestDistortedTokens(t *testing.T) {
	tests := []struct{ fault, field, want string }{
		{"no_expires_in", "expires_in", ""},
		{"expires_in=string", "expires_in", `"expires_in":"30"`},
		{"expires_in=negative", "expires_in", `"expires_in":-30`},
		{"expires_in=huge", "expires_in", `"expires_in":1e30`},
		{"expires_in=garbage", "expires_in", `"expires_in":"soon"`},
		{"expires_in=[1]", "expires_in", `"expires_in":[1]`},
		{"refresh_in=12", "refresh_in", `"refresh_in":12`},
		{"token_type", "token_type", `"token_type":"mac"`},
		{"token_type=DPoP", "token_type", `"token_type":"DPoP"`},
		{"short=3s", "expires_in", `"expires_in":3`},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
			mustInject(t, server, tt.fault)
			got := mustPost(t, server.TokenURL(), form())
			if got.status != 200 || !server.Valid(got.text("access_token")) || lastRequest(t, server).Outcome != "issued" {
				t.Fatalf("answer = %d, fields %v", got.status, got.fields)
			}
			if _, present := got.fields[tt.field]; present != (tt.want != "") || !strings.Contains(got.body, tt.want) {
				t.Errorf("%s = %v, want %s", tt.field, got.fields[tt.field], tt.want)
			}
		})
	}
}

func TestBrokenConnections(t *testing.T) {
	for _, secure := range []bool{false, true} {
		server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}, TLS: secure})
		client := trusting(t, server)
		tests := []struct {
			fault string
			want  []error // any of them
		}{
			{"reset", []error{syscall.ECONNRESET, io.EOF}},
			{"cut", []error{io.ErrUnexpectedEOF}},
			{"truncate", []error{io.ErrUnexpectedEOF}},
		}
		for _, tt := range tests {
			t.Run(tt.fault, func(t *testing.T) {
				mustInject(t, server, tt.fault+"*1")
				got, err := do(client, newRequest(t, server.TokenURL(), form()))
				matches := false
				for _, want := range tt.want {
					matches = matches || errors.Is(err, want)
				}
				if !matches {
					t.Errorf("answer = %d, error %v, want one of %v", got.status, err, tt.want)
				}
				if entry := lastRequest(t, server); entry.Fault != tt.fault || (entry.Status == 0) != (tt.fault != "truncate") {
					t.Errorf("log = %+v", entry)
				}
			})
		}
	}
}

// A plain TCP peer sees that reset is a reset and not an orderly end.
func TestResetIsAReset(t *testing.T) {
	server := start(t, devserver.Options{})
	mustInject(t, server, "reset")
	conn, err := net.Dial("tcp", strings.TrimPrefix(server.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := newRequest(t, server.TokenURL(), form()).Write(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(conn).ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reading the answer: %v, want a reset", err)
	}
}

func TestStall(t *testing.T) {
	t.Run("until the client gives up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server, client := inMemory(t, devserver.Options{Clients: []devserver.Client{appClient()}})
			client.Timeout = 10 * time.Second
			mustInject(t, server, "stall*1")
			began := time.Now()
			_, err := do(client, newRequest(t, server.TokenURL(), form()))
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(began) != 10*time.Second {
				t.Errorf("error = %v after %s", err, time.Since(began))
			}
			if got := mustDo(t, client, newRequest(t, server.TokenURL(), form())); got.status != 200 {
				t.Errorf("the request after the stall got %d", got.status)
			}
		})
	})
	t.Run("until the server is closed", func(t *testing.T) {
		server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
		mustInject(t, server, "stall")
		ended := make(chan error)
		go func() {
			_, err := do(http.DefaultClient, newRequest(t, server.TokenURL(), form()))
			ended <- err
		}()
		if err := server.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err == nil {
			t.Error("the stalled request got an answer")
		}
	})
}

func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := inMemory(t, devserver.Options{Clients: []devserver.Client{appClient()}})
		mustInject(t, server, "slow=7s*1")
		began := time.Now()
		got := mustDo(t, client, newRequest(t, server.TokenURL(), form()))
		if took := time.Since(began); got.status != 200 || took != 7*time.Second {
			t.Errorf("answer = %d after %s", got.status, took)
		}
		mustInject(t, server, "drip=100ms*1")
		began = time.Now()
		got = mustDo(t, client, newRequest(t, server.TokenURL(), form()))
		want := time.Duration(len(got.body)) * 100 * time.Millisecond
		if took := time.Since(began); got.status != 200 || got.text("access_token") == "" || took != want {
			t.Errorf("answer = %d after %s, want %s", got.status, took, want)
		}
	})
}

func TestSlowWithoutPatience(t *testing.T) {
	for _, fault := range []string{"slow=1h", "drip=1h"} {
		t.Run(fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := inMemory(t, devserver.Options{Clients: []devserver.Client{appClient()}})
				client.Timeout = time.Second
				mustInject(t, server, fault)
				if _, err := do(client, newRequest(t, server.TokenURL(), form())); err == nil {
					t.Error("the answer came in time")
				}
			})
		})
	}
}

func TestHugeEndsWithItsReader(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
	mustInject(t, server, "huge*1")
	response, err := http.DefaultClient.Do(newRequest(t, server.TokenURL(), form()))
	if err != nil {
		t.Fatal(err)
	}
	const enough = 1<<20 + 1
	n, err := io.Copy(io.Discard, io.LimitReader(response.Body, enough))
	if n != enough || err != nil {
		t.Errorf("read %d bytes, error %v", n, err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestRedirectShowsWhoFollows(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
	mustInject(t, server, "redirect=307,*1")
	if got := mustPost(t, server.TokenURL(), form()); got.status != 200 {
		t.Errorf("following the redirect got %d", got.status)
	}
	requests := server.Requests()
	if len(requests) != 2 || requests[0].Outcome != "redirect" || requests[1].Path != "/redirected/token" {
		t.Errorf("log = %+v", requests)
	}
}

func TestFaultQueue(t *testing.T) {
	other := appClient()
	other.ID = "other"
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient(), other}})
	ask := func(client string) int {
		return mustPost(t, server.TokenURL(), form("client_id", client)).status
	}
	mustInject(t, server, "ok*1")
	mustInject(t, server, "throttle=none*2")
	mustInject(t, server, "outage")
	for i, want := range []int{200, 429, 429, 503, 503} {
		if got := ask(appID); got != want {
			t.Errorf("request %d got %d, want %d", i+1, got, want)
		}
	}
	server.Clear()
	if err := server.Inject(devserver.Fault{Kind: devserver.Outage, Client: "other"}); err != nil {
		t.Fatal(err)
	}
	if mine, others := ask(appID), ask("other"); mine != 200 || others != 503 {
		t.Errorf("a fault for another client: %d, and %d for it", mine, others)
	}
}

func TestFaultComesBeforeEverything(t *testing.T) {
	server := start(t, devserver.Options{})
	mustInject(t, server, "throttle=3*1")
	if got := mustPost(t, server.TokenURL(), form("client_id", "nobody", "grant_type", "")); got.status != 429 {
		t.Errorf("a bad request under a fault got %d", got.status)
	}
}

func TestZeroFieldsAreFilledIn(t *testing.T) {
	tests := []struct {
		fault      devserver.Fault
		status     int
		retryAfter string
	}{
		{devserver.Fault{Kind: devserver.Throttle}, 429, ""},
		{devserver.Fault{Kind: devserver.Throttle, RetryAfter: "9"}, 429, "9"},
		{devserver.Fault{Kind: devserver.Throttle, Status: 400, RetryAfter: "9"}, 400, "9"},
		{devserver.Fault{Kind: devserver.Outage}, 503, ""},
		{devserver.Fault{Kind: devserver.Refuse, RetryAfter: "4"}, 401, "4"},
		{devserver.Fault{Kind: devserver.Refuse, Error: "invalid_scope"}, 400, ""},
		{devserver.Fault{Kind: devserver.Redirect}, 302, ""},
		{devserver.Fault{Kind: devserver.Body, Status: 500, Body: "no"}, 500, ""},
	}
	for _, tt := range tests {
		t.Run(tt.fault.String(), func(t *testing.T) {
			server := start(t, devserver.Options{Faults: []devserver.Fault{tt.fault}})
			got := mustDo(t, noRedirects(), newRequest(t, server.TokenURL(), form()))
			if got.status != tt.status || got.header.Get("Retry-After") != tt.retryAfter {
				t.Errorf("answer = %d %v", got.status, got.header)
			}
		})
	}
}

func TestBrokenConnectionWithoutConnection(t *testing.T) {
	for _, fault := range []string{"reset", "cut", "stall"} {
		t.Run(fault, func(t *testing.T) {
			server := start(t, devserver.Options{})
			mustInject(t, server, fault)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			defer func() {
				if got, _ := recover().(error); !errors.Is(got, http.ErrAbortHandler) {
					t.Errorf("the handler ended with %v", got)
				}
			}()
			server.Handler().ServeHTTP(discardWriter{http.Header{}}, newRequest(t, server.TokenURL(), form()).WithContext(ctx))
		})
	}
}

// discardWriter is a ResponseWriter without a connection.
type discardWriter struct{ header http.Header }

func (w discardWriter) Header() http.Header         { return w.header }
func (w discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w discardWriter) WriteHeader(int)             {}

func TestFaultsThatNeverCome(t *testing.T) {
	for texts, want := range map[string]string{
		"ok throttle=600":              "ok: throttle=600",
		"ok*3 throttle=600":            "",
		"outage*1 stall slow=2s reset": "stall: slow=2s reset",
		"ok*0 outage*2":                "ok: outage=503*2",
		"throttle=7*2 outage":          "",
		"":                             "",
	} {
		var faults []devserver.Fault
		for _, text := range strings.Fields(texts) {
			fault, err := devserver.ParseFault(text)
			if err != nil {
				t.Fatal(err)
			}
			faults = append(faults, fault)
		}
		endless, never := devserver.Unmet(faults)
		got := ""
		if len(never) > 0 {
			got = endless.String() + ":"
		}
		for _, f := range never {
			got += " " + f.String()
		}
		if got != want {
			t.Errorf("of %q: %q, want %q", texts, got, want)
		}
	}
}
