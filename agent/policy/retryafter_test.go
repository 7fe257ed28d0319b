package policy_test

import (
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

func TestRetryAfter(t *testing.T) {
	const date = "Sun, 06 Nov 1994 08:49:37 GMT"
	// The host is an hour ahead of the server.
	received := time.Date(1994, 11, 6, 9, 49, 37, 0, time.UTC)
	tests := []struct {
		name, value, date string
		want              time.Duration
		capped, ok        bool
	}{
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
		{"a plus sign", "+5", date, 0, false, false},
		{"a decimal", "1.5", date, 0, false, false},
		{"an exponent", "1e3", date, 0, false, false},
		{"hexadecimal", "0x10", date, 0, false, false},
		{"a unit", "5s", date, 0, false, false},
		{"two numbers", "5, 5", date, 0, false, false},
		{"digits of another script", "٣٠", date, 0, false, false},
		{"words", "soon", date, 0, false, false},
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
		{"a date of RFC 3339", "1994-11-06T08:50:37Z", date, 0, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			wait, capped, ok := policy.RetryAfter(test.value, test.date, received)
			if wait != test.want || capped != test.capped || ok != test.ok {
				t.Errorf("RetryAfter = %v, %v, %v, want %v, %v, %v", wait, capped, ok, test.want, test.capped, test.ok)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Fuzz(func(t *testing.T, value, date string, clock int32) {
		received := time.Unix(int64(clock), 0)
		wait, capped, ok := policy.RetryAfter(value, date, received)
		if wait < 0 || wait > policy.MaxRetryAfter || capped && wait != policy.MaxRetryAfter || !ok && (capped || wait != 0) {
			t.Fatalf("RetryAfter = %v, %v, %v", wait, capped, ok)
		}
		if again, _, okAgain := policy.RetryAfter(" "+value+"\t", date, received); again != wait || okAgain != ok {
			t.Errorf("with space around it is %v, %v, without %v, %v", again, okAgain, wait, ok)
		}
		trimmed := strings.TrimSpace(value)
		if isDigits := trimmed != "" && strings.Trim(trimmed, "0123456789") == ""; isDigits {
			seconds, _ := new(big.Int).SetString(trimmed, 10)
			day := big.NewInt(int64(policy.MaxRetryAfter / time.Second))
			if over := seconds.Cmp(day) > 0; !ok || capped != over || !over && wait != time.Duration(seconds.Int64())*time.Second {
				t.Errorf("RetryAfter(%q) = %v, %v, %v", trimmed, wait, capped, ok)
			}
			return
		}
		if _, err := http.ParseTime(trimmed); ok && err != nil {
			t.Errorf("RetryAfter(%q) is %v, but it is neither seconds nor a date", trimmed, wait)
		}
		if _, err := http.ParseTime(strings.TrimSpace(date)); err != nil || !strings.HasSuffix(date, "GMT") {
			return
		}
		if other, _, _ := policy.RetryAfter(value, date, received.Add(time.Hour)); other != wait {
			t.Errorf("the host's clock matters although there is a Date: %v, %v", wait, other)
		}
	})
}
