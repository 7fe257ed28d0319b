//go:build unix

package provider

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/credagent/credagent/plugins/providerpb"
)

func TestFailureKinds(t *testing.T) {
	for in, want := range map[providerpb.Failure_Kind]Kind{
		providerpb.Failure_KIND_CONFIG:      KindConfig,
		providerpb.Failure_KIND_CREDENTIAL:  KindCredential,
		providerpb.Failure_KIND_NETWORK:     KindNetwork,
		providerpb.Failure_KIND_TIMEOUT:     KindTimeout,
		providerpb.Failure_KIND_UNSPECIFIED: KindProvider,
		providerpb.Failure_Kind(99):         KindProvider,
	} {
		_, failure, err := readReply(&providerpb.ExchangeReply{
			Result:     &providerpb.ExchangeReply_Failure{Failure: &providerpb.Failure{Kind: in, Message: "why\n"}},
			Credential: &providerpb.Credential{Files: []string{"/k"}},
		})
		if err != nil || failure == nil || failure.Kind != want || failure.Error() != "why " || failure.Credential.Files[0] != "/k" {
			t.Errorf("%v became %+v, %v", in, failure, err)
		}
		if failure.Sent() != (want != KindConfig && want != KindCredential) {
			t.Errorf("%v: Sent() is %v", in, failure.Sent())
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"plain":                 "plain",
		"0123456789":            "0123456789",
		"0123456789a":           "0123456789…",
		"012345678é":            "012345678…",
		"a\nb\tc\x00":           "a b c ",
		"\x1b[2J":               " [2J",
		"\u202eabc":             " abc",
		"\xffa":                 " a",
		strings.Repeat("é", 50): "ééééé…",
	} {
		if got := printable(in, 10); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLineLog(t *testing.T) {
	for name, tc := range map[string]struct {
		writes []string
		want   []string
	}{
		"lines":        {[]string{"a\nb", "c\n"}, []string{"a", "bc"}},
		"last line":    {[]string{"a\n", "last words"}, []string{"a", "last words"}},
		"long line":    {[]string{strings.Repeat("x", 300), strings.Repeat("y", 300), "z\n"}, []string{strings.Repeat("x", 300) + strings.Repeat("y", 200)}},
		"control":      {[]string{"a\x1b[0m\n"}, []string{"a [0m"}},
		"nothing":      {nil, nil},
		"without end":  {[]string{strings.Repeat("x\n", 5*maxLines), "more"}, append(make([]string, 0), strings.Split(strings.Repeat("x", maxLines), "")...)},
		"without line": {[]string{strings.Repeat("x", 5<<20)}, []string{strings.Repeat("x", maxLine)}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			dropped := false
			l := &lineLog{log: slog.New(slog.NewTextHandler(lineFunc(func(line string) {
				if strings.Contains(line, "the rest is dropped") {
					dropped = true
					return
				}
				got = append(got, line)
			}), &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: onlyLine}))}
			for _, text := range tc.writes {
				if n, err := l.Write([]byte(text)); n != len(text) || err != nil {
					t.Fatalf("Write: %d, %v", n, err)
				}
			}
			l.finish()
			if strings.Join(got, "|") != strings.Join(tc.want, "|") || dropped != (name == "without end") || cap(l.line) > 2*maxLine {
				t.Errorf("got %q, dropped: %v", got, dropped)
			}
		})
	}
}

// lineFunc is a writer of log lines of the form line=TEXT.
type lineFunc func(string)

func (f lineFunc) Write(data []byte) (int, error) {
	text := strings.TrimSpace(string(data))
	text = strings.TrimPrefix(text, "msg=\"provider printed\" ")
	f(strings.Trim(strings.TrimPrefix(text, "line="), `"`))
	return len(data), nil
}

func onlyLine(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}

// Whatever a provider replies, what the agent takes from it is sound.
func FuzzReadReply(f *testing.F) {
	for _, seed := range [][]byte{
		{}, notUTF8(), answering(&providerpb.Answer{Status: 200, Body: []byte("{}")}), answering(&providerpb.Answer{Status: -200}),
		withHeader("Retry-After", "1\r\nX: y"), withHeader("", "1"),
		withCredential(&providerpb.Credential{Files: []string{"etc/key", "/etc/a\nb"}}),
		withCredential(&providerpb.Credential{NotAfterSeconds: 1 << 60}), withCredential(&providerpb.Credential{NotBeforeSeconds: -1}),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var out providerpb.ExchangeReply
		if proto.Unmarshal(data, &out) != nil {
			return
		}
		reply, failure, err := readReply(&out)
		if err != nil {
			return
		}
		credential := reply.Credential
		if failure != nil {
			credential = failure.Credential
			checkShown(t, failure.Message)
		} else if reply.Status < 100 || reply.Status > 599 || len(reply.Body) > maxBody {
			t.Errorf("status %d, %d bytes", reply.Status, len(reply.Body))
		}
		checkShown(t, reply.BodyError)
		checkShown(t, credential.Identity)
		for _, path := range credential.Files {
			if !filepath.IsAbs(path) || hasControl(path) {
				t.Errorf("path %q", path)
			}
		}
		if year := credential.NotAfter.UTC().Year(); !credential.NotAfter.IsZero() && (year < 1970 || year > 9999) {
			t.Errorf("not after %d", year)
		}
		if shown := fmt.Sprint(reply.Header); hasControl(shown) {
			t.Errorf("header %q", shown)
		}
	})
}

func checkShown(t *testing.T, text string) {
	t.Helper()
	if len(text) > maxText+len("…") || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%q is shown", text)
	}
}
