//go:build unix

package provider

import (
	"fmt"
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
		providerpb.Failure_KIND_REFUSED:     KindRefused,
		providerpb.Failure_KIND_UNAVAILABLE: KindUnavailable,
		providerpb.Failure_KIND_UNSPECIFIED: KindProvider,
		providerpb.Failure_Kind(99):         KindProvider,
	} {
		_, failure, err := readReply(&providerpb.ExchangeReply{
			Result: &providerpb.ExchangeReply_Failure{Failure: &providerpb.Failure{
				Kind: in, Message: "why\n", Status: 429, Headers: []*providerpb.Parameter{{Name: "Retry-After", Value: "7"}},
			}},
			Credential: &providerpb.Credential{Files: []string{"/k"}},
		})
		if err != nil || failure == nil || failure.Kind != want || failure.Error() != "why " || failure.Credential.Files[0] != "/k" {
			t.Errorf("%v became %+v, %v", in, failure, err)
		}
		if failure.Sent() != (want != KindConfig && want != KindCredential && want != KindUnavailable) {
			t.Errorf("%v: Sent() is %v", in, failure.Sent())
		}
		// Nobody else's answer is a reason to wait.
		if asked := failure.Status == 429 && failure.Header.Get("Retry-After") == "7"; asked != (want == KindUnavailable) {
			t.Errorf("%v: status %d, header %v", in, failure.Status, failure.Header)
		}
	}
}

// What hands credentials out is no more believed than the provider: an answer that cannot be counts for nothing.
func TestAnswersOfSourcesThatCannotBe(t *testing.T) {
	for name, failure := range map[string]*providerpb.Failure{
		"status":  {Status: 1000},
		"header":  {Status: 429, Headers: []*providerpb.Parameter{{Name: "Retry-After", Value: "1\r\nX: y"}}},
		"headers": {Status: 429, Headers: make([]*providerpb.Parameter, maxHeaders+1)},
	} {
		t.Run(name, func(t *testing.T) {
			failure.Kind, failure.Message = providerpb.Failure_KIND_UNAVAILABLE, "it does not answer"
			got := readFailure(failure, Credential{})
			if got.Kind != KindUnavailable || got.Status != 0 || got.Header != nil || got.Message != "it does not answer" {
				t.Errorf("failure %+v", got)
			}
		})
	}
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
