package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/credagent/credagent/internal/secret"
)

const canary = "canary-8f2a"

func TestValueNeverShowsItsContent(t *testing.T) {
	v := secret.New(canary)
	holder := struct {
		V secret.Value
		P *secret.Value
	}{v, &v}

	shown := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10s", "%T"} {
		shown["value "+verb] = fmt.Sprintf(verb, v)
		shown["pointer "+verb] = fmt.Sprintf(verb, &v)
		shown["struct "+verb] = fmt.Sprintf(verb, holder)
	}
	data, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	shown["json"] = string(data)
	asKey, err := json.Marshal(map[secret.Value]int{v: 1})
	if err != nil {
		t.Fatal(err)
	}
	shown["json key"] = string(asKey)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var out bytes.Buffer
		slog.New(handler(&out)).Info("event", "secret", v, "holder", holder)
		shown[name] = out.String()
	}
	shown["error"] = fmt.Errorf("wrapping %w: %v", fmt.Errorf("%v", v), holder).Error()

	hexed := fmt.Sprintf("%x", canary)
	for name, text := range shown {
		if strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), hexed) {
			t.Errorf("%s shows the content: %s", name, text)
		}
	}
}

func TestReveal(t *testing.T) {
	if got := secret.New(canary).Reveal(); got != canary {
		t.Errorf("Reveal() = %q", got)
	}
	if !(secret.Value{}).IsZero() || secret.New(canary).IsZero() {
		t.Error("IsZero is wrong")
	}
	if one, other := secret.New(canary), secret.New(canary); one != other {
		t.Error("equal contents do not compare equal")
	}
}
