package kubeapi

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

// FuzzStatus reads refusals: whatever comes, what is shown is one bounded line.
func FuzzStatus(f *testing.F) {
	f.Add([]byte(`{"kind":"Status","code":409,"reason":"Conflict","message":"Apply failed","details":{"causes":[{"reason":"FieldManagerConflict","field":".data.token","message":"conflict with \"helm\""}]}}`))
	f.Add([]byte("<html>\x1b[31m"))
	f.Add([]byte(`{"kind":"Status","details":{"causes":null}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e := parseStatus(body)
		texts := []string{e.Error(), e.Reason}
		for _, cause := range e.Causes {
			texts = append(texts, cause.Reason, cause.Field, cause.Message)
		}
		for _, text := range texts {
			if len(text) > 2*maxText || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("it shows %q", text)
			}
		}
	})
}

// FuzzEvents reads streams: an event that is passed on has a type and a version, and is what the line says.
func FuzzEvents(f *testing.F) {
	f.Add(`{"type":"ADDED","object":{"metadata":{"name":"graph","resourceVersion":"7"}}}` + "\n" + `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"8"}}}` + "\n")
	f.Add(`{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}` + "\n")
	f.Add(`{"type":"DELETED","object":{"metadata":{"name":"gra`)
	f.Fuzz(func(t *testing.T, stream string) {
		events := 0
		err := readEvents(strings.NewReader(stream), func(e Event) {
			events++
			if e.Version == "" || e.Type == "" || e.Name == "" && e.Type != "BOOKMARK" {
				t.Errorf("it passes %+v on", e)
			}
		})
		lines := 0
		for line := range strings.Lines(stream) {
			if !json.Valid([]byte(line)) {
				break
			}
			lines++
		}
		if events > lines {
			t.Errorf("%d events of %d lines, %v", events, lines, err)
		}
	})
}
