package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/credagent/credagent/agent/status"
)

// TestWhatAPeerSaysIsFitForATerminal: every text of an answer, wherever it stands in it.
func TestWhatAPeerSaysIsFitForATerminal(t *testing.T) {
	for name, text := range map[string]string{
		"a title":        "\x1b]0;PWN\x07",
		"a clear screen": "\x1b[2J",
		"C1":             "\u009b2J",
		"delete":         "a\x7fb",
		"a line break":   "a\nready",
		"a return":       "not ready\rready    ",
		"right to left":  "\u202eabc",
		"zero width":     "a\u200bb",
		"a hyperlink":    "\x1b]8;;http://x\x1b\\here",
	} {
		t.Run(name, func(t *testing.T) {
			body, err := json.Marshal(status.Status{
				Version: text, Source: text, NotReady: []string{text}, Reload: &status.Reload{Error: text},
				Tokens:  []status.Token{{Name: text, LastError: text, Advice: text, LastOutcome: text}},
				Clients: []status.Client{{TokenEndpoint: text, Credentials: []status.Credential{{Problem: text}}}},
				Sinks:   []status.Sink{{Path: text, Tokens: []string{text}, OnChange: &status.OnChange{LastError: text}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			s, err := readStatus(body, "here")
			if err != nil {
				t.Fatal(err)
			}
			for _, said := range []string{
				s.Version, s.Source, s.NotReady[0], s.Reload.Error, s.Tokens[0].Name, s.Tokens[0].LastError, s.Tokens[0].Advice, s.Tokens[0].LastOutcome,
				s.Clients[0].TokenEndpoint, s.Clients[0].Credentials[0].Problem, s.Sinks[0].Path, s.Sinks[0].Tokens[0], s.Sinks[0].OnChange.LastError,
			} {
				if strings.ContainsFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("%q", said)
				}
			}
		})
	}
}

func TestATokenWithControlCharactersIsNotPrinted(t *testing.T) {
	for text, want := range map[string]bool{
		"{\"access_token\":\"abc\"}\n": true,
		"{\n\t\"a\": 1\r\n}":           true,
		"{\"a\":\"\x7f\"}":             false,
		"{\"a\":\"\u009b2J\"}":         false,
		"{\"a\":\"\xff\"}":             false,
		"{\"a\":\"\u202e\"}":           false,
	} {
		if got := isShowable([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
