package policy_test

import (
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

func TestRetryAfter(t *testing.T) {
	const date = "Sun, 06 Nov 1994 08:49:37 GMT"
	tests := []retryAfterTest{
		{"absent", "", date, 0, false, false},
		{"only space", " \t ", date, 0, false, false},
		{"seconds", "120", date, 2 * time.Minute, false, true},
		{"seconds without Date", "120", "", 2 * time.Minute, false, true},
		{"no wait", "0", date, 0, false, true},
		{"leading zeros", "000000000000000000000000007", date, 7 * time.Second, false, true},
		{"space around", "  30\t", date, 30 * time.Second, false, true},
		{"a day", "86400", date, policy.MaxRetryAfter, false, true},
		{"a second more than a day", "86401", date, policy.MaxRetryAfter, true, true},
		{"a year", "31536000", date, policy.MaxRetryAfter, true, true},
		{"more than int64 holds", strings.Repeat("9", 400), date, policy.MaxRetryAfter, true, true},
		{"just what wraps around to little", "18446744073709551617", date, policy.MaxRetryAfter, true, true},
		{"negative", "-1", date, 0, false, false},
		{"a decimal, rounded up", "1.5", date, 2 * time.Second, false, true},
		{"a decimal of little", "0.001", date, time.Second, false, true},
		{"a decimal without a fraction", "120.0", date, 2 * time.Minute, false, true},
		{"a decimal of a day and a moment", "86400.1", date, policy.MaxRetryAfter, true, true},
		{"a dot alone", ".", date, 0, false, false},
		{"two dots", "1.2.3", date, 0, false, false},
		{"an exponent", "1e3", date, 0, false, false},
		{"hexadecimal", "0x10", date, 0, false, false},
		{"a unit", "5s", date, 5 * time.Second, false, true},
		{"a unit in full", "120 seconds", date, 2 * time.Minute, false, true},
		{"a unit in capitals", "30 SEC", date, 30 * time.Second, false, true},
		{"a fraction with a unit", "1.5s", date, 2 * time.Second, false, true},
		{"milliseconds", "1500ms", date, 2 * time.Second, false, true},
		{"minutes", "2 min", date, 2 * time.Minute, false, true},
		{"a unit nobody knows", "5 parsecs", date, 0, false, false},
		{"a unit alone", "s", date, 0, false, false},
		{"in quotes", `"120"`, date, 2 * time.Minute, false, true},
		{"equal numbers", "5, 5", date, 5 * time.Second, false, true},
		{"a list, the longest", "5,90 , 7", date, 90 * time.Second, false, true},
		{"a list with something else", "soon, 90", date, 90 * time.Second, false, true},
		{"a list with a date", "5, Sun, 06 Nov 1994 08:50:37 GMT, 7", date, time.Minute, false, true},
		{"two dates", "Sun, 06 Nov 1994 08:50:37 GMT, Sun, 06 Nov 1994 08:51:37 GMT", date, 2 * time.Minute, false, true},
		{"commas", ",,", date, 0, false, false},
		{"digits of another script", "٣٠", date, 0, false, false},
		{"words", "soon", date, 0, false, false},
	}
	checkRetryAfters(t, tests)
}

func TestRetryAfterInOtherForms(t *testing.T) {
	const date = "Sun, 06 Nov 1994 08:49:37 GMT"
	checkRetryAfters(t, []retryAfterTest{
		{"a plus sign", "+5", date, 5 * time.Second, false, true},
		{"two signs", "+-5", date, 0, false, false},
		{"minutes and seconds", "1m30s", date, 90 * time.Second, false, true},
		{"in words", "1 minute 30 seconds", date, 90 * time.Second, false, true},
		{"hours, minutes", "1h 5m", date, 65 * time.Minute, false, true},
		{"ISO 8601", "PT60S", date, time.Minute, false, true},
		{"ISO 8601, more", "pt1h1m1.5s", date, time.Hour + 62*time.Second, false, true},
		{"ISO 8601, a day", "P1D", date, policy.MaxRetryAfter, false, true},
		{"ISO 8601, a day and more", "P1DT1S", date, policy.MaxRetryAfter, true, true},
		{"ISO 8601 without a unit", "PT60", date, 0, false, false},
		{"ISO 8601, nothing", "PT", date, 0, false, false},
		{"ISO 8601, no days", "PD", date, 0, false, false},
		{"a parameter", "60;comment=x", date, time.Minute, false, true},
		{"a comment", "60 (maintenance)", date, time.Minute, false, true},
		{"a comment alone", "(60)", date, 0, false, false},
		{"a quoted one with a parameter", `"60";x=1`, date, time.Minute, false, true},
		{"a unit nobody knows after one", "1m30parsecs", date, 0, false, false},
	})
}

func TestRetryAfterAtADate(t *testing.T) {
	const date = "Sun, 06 Nov 1994 08:49:37 GMT"
	checkRetryAfters(t, []retryAfterTest{
		{"a date of RFC 9110", "Sun, 06 Nov 1994 08:50:37 GMT", date, time.Minute, false, true},
		{"a date of RFC 850", "Sunday, 06-Nov-94 08:50:37 GMT", date, time.Minute, false, true},
		{"a date of asctime", "Sun Nov  6 08:50:37 1994", date, time.Minute, false, true},
		{"space around dates", " Sun, 06 Nov 1994 08:50:37 GMT ", " " + date + " ", time.Minute, false, true},
		{"Date in RFC 850", "Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", time.Minute, false, true},
		{"Date in asctime", "Sun, 06 Nov 1994 08:50:37 GMT", "Sun Nov  6 08:49:37 1994", time.Minute, false, true},
		{"a date without Date is read by the host's clock", "Sun, 06 Nov 1994 09:50:37 GMT", "", time.Minute, false, true},
		{"a Date that cannot be read is none", "Sun, 06 Nov 1994 09:50:37 GMT", "yesterday", time.Minute, false, true},
		{"a date that is past", "Sun, 06 Nov 1994 08:00:00 GMT", date, 0, false, true},
		{"a date that is now", date, date, 0, false, true},
		{"a date a day away", "Mon, 07 Nov 1994 08:49:37 GMT", date, policy.MaxRetryAfter, false, true},
		{"a date two days away", "Tue, 08 Nov 1994 08:49:37 GMT", date, policy.MaxRetryAfter, true, true},
		{"a date further than a Duration", "Fri, 31 Dec 9999 23:59:59 GMT", date, policy.MaxRetryAfter, true, true},
		{"a date long past", "Sat, 01 Jan 0001 00:00:00 GMT", date, 0, false, true},
		{"a date that does not exist", "Sun, 31 Feb 1994 08:49:37 GMT", date, 0, false, false},
		{"a date of another zone", "Sunday, 06-Nov-94 08:50:37 CET", date, 0, false, false},
		{"a date with an offset", "Sunday, 06-Nov-94 08:50:37 GMT+3", date, 0, false, false},
		{"a date of RFC 3339", "1994-11-06T08:50:37Z", date, time.Minute, false, true},
		{"a date with another offset", "Sun, 06 Nov 1994 09:50:37 +0100", date, time.Minute, false, true},
		{"a date in UTC", "Sun, 06 Nov 1994 08:50:37 UTC", date, time.Minute, false, true},
		{"a date without a weekday", "06 Nov 1994 08:50:37 GMT", date, time.Minute, false, true},
		{"a date with a wrong weekday", "Mon, 06 Nov 1994 08:50:37 GMT", date, time.Minute, false, true},
		{"a date with no weekday at all", "Xyz, 06 Nov 1994 08:50:37 GMT", date, time.Minute, false, true},
		{"two dates without a weekday", "06 Nov 1994 08:50:37 GMT, 6 Nov 1994 08:51:37 GMT", date, 2 * time.Minute, false, true},
		{"a date with a comment", "Sun, 06 Nov 1994 08:50:37 GMT (maintenance)", date, time.Minute, false, true},
		{"a day of one digit", "Sun, 6 Nov 1994 08:50:37 GMT", date, time.Minute, false, true},
	})
}

type retryAfterTest struct {
	name, value, date string
	want              time.Duration
	capped, ok        bool
}

func checkRetryAfters(t *testing.T, tests []retryAfterTest) {
	t.Helper()
	// The host is an hour ahead of the server.
	received := time.Date(1994, 11, 6, 9, 49, 37, 0, time.UTC)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := policy.RetryAfter(retryAfter(test.value, test.date), 503, received)
			if got.For != test.want || got.Capped != test.capped || got.Known != test.ok {
				t.Errorf("RetryAfter = %+v, want %v, %v, %v", got, test.want, test.capped, test.ok)
			}
			if unread := !test.ok && strings.Trim(test.value, " \t,") != ""; !test.ok && (got.Unread != "") != unread {
				t.Errorf("unread %q, want %v", got.Unread, unread)
			}
		})
	}
}

func retryAfter(value, date string) http.Header {
	return http.Header{"Retry-After": {value}, "Date": {date}}
}

func TestRetryAfterOfSeveralHeaders(t *testing.T) {
	received := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC) // 784111777 in Unix time
	const tooMany, broken = 429, 503
	tests := []struct {
		name   string
		header http.Header
		status int
		want   policy.Asked
	}{
		{"two, the longest", http.Header{"Retry-After": {"1", "120"}}, broken, policy.Asked{For: 2 * time.Minute, Known: true}},
		{"two, the first is longer", http.Header{"Retry-After": {"300", "0"}}, broken, policy.Asked{For: 5 * time.Minute, Known: true}},
		{"two, one of which cannot be read", http.Header{"Retry-After": {"soon", "7"}}, broken, policy.Asked{For: 7 * time.Second, Known: true, Unread: "Retry-After"}},
		{"milliseconds", http.Header{"Retry-After-Ms": {"1500.5"}}, tooMany, policy.Asked{For: 2 * time.Second, Known: true}},
		{"milliseconds, Microsoft's", http.Header{"X-Ms-Retry-After-Ms": {"90000"}}, tooMany, policy.Asked{For: 90 * time.Second, Known: true}},
		{"they count on a 429 alone", http.Header{"Retry-After-Ms": {"1500"}, "X-Ratelimit-Reset": {"60"}}, broken, policy.Asked{}},
		{"Retry-After wins over them", http.Header{"Retry-After": {"7"}, "Retry-After-Ms": {"90000"}, "X-Ratelimit-Reset": {"60"}}, tooMany, policy.Asked{For: 7 * time.Second, Known: true}},
		{"one that cannot be read does not", http.Header{"Retry-After": {"soon"}, "Ratelimit-Reset": {"60"}}, tooMany, policy.Asked{For: time.Minute, Known: true, Unread: "Retry-After"}},
		{"a reset in seconds", http.Header{"Ratelimit-Reset": {"60"}}, tooMany, policy.Asked{For: time.Minute, Known: true}},
		{"a reset at an instant", http.Header{"X-Ratelimit-Reset": {"784111837"}}, tooMany, policy.Asked{For: policy.MaxRetryAfter, Known: true, Capped: true}}, // before 2001: no instant
		{"a reset that is over", http.Header{"X-Ratelimit-Reset": {"0"}}, tooMany, policy.Asked{Known: true}},
		{"a reset by a date", http.Header{"X-Ratelimit-Reset": {"Sun, 06 Nov 1994 08:50:37 GMT"}}, tooMany, policy.Asked{For: time.Minute, Known: true}},
		{"a reset by RFC 3339", http.Header{"X-Ratelimit-Reset": {"1994-11-06T08:50:37+00:00"}}, tooMany, policy.Asked{For: time.Minute, Known: true}},
		{"Okta's spelling", http.Header{"X-Rate-Limit-Reset": {"60"}}, tooMany, policy.Asked{For: time.Minute, Known: true}},
		{"the draft's, nothing left", http.Header{"Ratelimit": {`"default";r=0;t=60`}}, tooMany, policy.Asked{For: time.Minute, Known: true}},
		{"an earlier draft's", http.Header{"Ratelimit": {"limit=10, remaining=0, reset=50"}}, tooMany, policy.Asked{For: 50 * time.Second, Known: true}},
		{"the draft's, several", http.Header{"Ratelimit": {`"hour";r=40;t=3000, "minute"; r=0; t=30`}}, tooMany, policy.Asked{For: 30 * time.Second, Known: true}},
		{"the draft's without a window", http.Header{"Ratelimit": {`"default";r=0`}}, tooMany, policy.Asked{Unread: "Ratelimit"}},
		{"nothing that can be read", http.Header{"Retry-After": {"soon"}, "X-Ratelimit-Reset": {"later"}}, tooMany, policy.Asked{Unread: "Retry-After"}},
		{"nothing", nil, tooMany, policy.Asked{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := policy.RetryAfter(test.header, test.status, received); got != test.want {
				t.Errorf("RetryAfter = %+v, want %+v", got, test.want)
			}
		})
	}
}

// An instant is read against the server's clock, in seconds and in milliseconds.
func TestResetAtAnInstant(t *testing.T) {
	received := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	server := received.Add(-time.Hour)
	tests := []struct {
		name  string
		value int64
		want  policy.Asked
	}{
		{"seconds", server.Add(time.Minute).Unix(), policy.Asked{For: time.Minute, Known: true}},
		{"milliseconds", server.Add(90 * time.Second).UnixMilli(), policy.Asked{For: 90 * time.Second, Known: true}},
		{"one that is over", server.Add(-time.Minute).Unix(), policy.Asked{Known: true}},
		{"one nobody names", 1_000_000_007, policy.Asked{For: policy.MaxRetryAfter, Known: true, Capped: true}},
		{"two days away", server.Add(48 * time.Hour).Unix(), policy.Asked{For: policy.MaxRetryAfter, Known: true, Capped: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, name := range []string{"X-Ratelimit-Reset", "Retry-After"} {
				header := http.Header{name: {strconv.FormatInt(test.value, 10)}, "Date": {server.Format(http.TimeFormat)}}
				if got := policy.RetryAfter(header, 429, received); got != test.want {
					t.Errorf("RetryAfter by %s = %+v, want %+v", name, got, test.want)
				}
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Fuzz(func(t *testing.T, value, date string, clock int32) {
		received := time.Unix(int64(clock), 0)
		asked := policy.RetryAfter(retryAfter(value, date), 503, received)
		checkAsked(t, asked)
		if again := policy.RetryAfter(retryAfter(" "+value+"\t", date), 503, received); again != asked {
			t.Errorf("with space around it is %+v, without %+v", again, asked)
		}
		twice := http.Header{"Retry-After": {value, "7"}, "Date": {date}}
		if both := policy.RetryAfter(twice, 429, received); !both.Known || both.For != max(asked.For, 7*time.Second) {
			t.Errorf("beside another header it is %+v, alone %+v", both, asked)
		}
		checkAsked(t, policy.RetryAfter(http.Header{"X-Ratelimit-Reset": {value}, "Retry-After-Ms": {value}, "Date": {date}}, 429, received))
		trimmed := strings.TrimSpace(value)
		if isDigits := trimmed != "" && strings.Trim(trimmed, "0123456789") == ""; isDigits {
			seconds, _ := new(big.Int).SetString(trimmed, 10)
			if seconds.IsInt64() && seconds.Int64() >= 1e9 && seconds.Int64() < 1e13 {
				return // it may be an instant
			}
			day := big.NewInt(int64(policy.MaxRetryAfter / time.Second))
			if over := seconds.Cmp(day) > 0; !asked.Known || asked.Capped != over || !over && asked.For != time.Duration(seconds.Int64())*time.Second {
				t.Errorf("RetryAfter(%q) = %+v", trimmed, asked)
			}
			return
		}
		if _, err := http.ParseTime(strings.TrimSpace(date)); err != nil || !strings.HasSuffix(date, "GMT") {
			return
		}
		if other := policy.RetryAfter(retryAfter(value, date), 503, received.Add(time.Hour)); other != asked {
			t.Errorf("the host's clock matters although there is a Date: %+v, %+v", other, asked)
		}
	})
}

func checkAsked(t *testing.T, asked policy.Asked) {
	t.Helper()
	if asked.For < 0 || asked.For > policy.MaxRetryAfter || asked.Capped && asked.For != policy.MaxRetryAfter || !asked.Known && (asked.Capped || asked.For != 0) {
		t.Fatalf("RetryAfter = %+v", asked)
	}
	if asked.For%time.Second != 0 && asked.For < time.Second {
		t.Fatalf("a wait of %v is not rounded up", asked.For)
	}
}
