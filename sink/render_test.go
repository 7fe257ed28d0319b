package sink_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

func TestFormats(t *testing.T) {
	for name, tc := range map[string]struct {
		renderer sink.Renderer
		want     string
	}{
		"raw":    {sink.Raw("graph"), canary},
		"header": {sink.Header("graph"), "Authorization: Bearer " + canary + "\n"},
		"json": {sink.JSON("graph"), `{"access_token":"` + canary + `","token_type":"Bearer",` +
			`"expires_on":1935810489,"expiry":"2031-05-06T05:08:09Z","refresh_on":1935808689,` +
			`"scope":"read <write>","client_id":"app-1","token":"graph"}` + "\n"},
		"exec_credential": {sink.ExecCredential("graph"), `{"apiVersion":"client.authentication.k8s.io/v1",` +
			`"kind":"ExecCredential","status":{"expirationTimestamp":"2031-05-06T05:08:09Z","token":"` + canary + `"}}` + "\n"},
		"envoy_sds": {sink.EnvoySDS("graph"), `{"version_info":"2031-05-06T05:08:09Z","resources":[{"@type":"` + secretType + `",` +
			`"name":"graph","generic_secret":{"secret":{"inline_string":"` + canary + `"}}}],"type_url":"` + secretType + `"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.renderer.Render(having(graph(canary)))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if names := tc.renderer.Tokens(); !slices.Equal(names, []string{"graph"}) {
				t.Errorf("Tokens() = %q", names)
			}
		})
	}
}

func TestJSONIsWhatOAuthClientsRead(t *testing.T) {
	data, err := sink.JSON("graph").Render(having(graph(canary)))
	if err != nil {
		t.Fatal(err)
	}
	// The fields of golang.org/x/oauth2's Token.
	var read struct {
		AccessToken string    `json:"access_token"`
		TokenType   string    `json:"token_type"`
		Expiry      time.Time `json:"expiry"`
	}
	must(t, json.Unmarshal(data, &read))
	want := graph(canary).Expiry.Truncate(time.Second)
	if read.AccessToken != canary || read.TokenType != "Bearer" || !read.Expiry.Equal(want) {
		t.Errorf("read %+v", read)
	}
}

func TestJSONOfTokenWithoutTimes(t *testing.T) {
	bare := graph(canary)
	bare.Expiry, bare.RefreshOn = time.Time{}, time.Time{}
	data, err := sink.JSON("graph").Render(having(bare))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"expires_on":0,`, `"refresh_on":0,`} {
		if !strings.Contains(string(data), part) {
			t.Errorf("%s lacks %s", data, part)
		}
	}
}

func everyRenderer(t *testing.T) map[string]sink.Renderer {
	t.Helper()
	tmpl, err := sink.Template(`{{ (token "graph").AccessToken }}`)
	must(t, err)
	env, err := sink.Env([]sink.Variable{{Name: "GRAPH", Token: "graph"}})
	must(t, err)
	return map[string]sink.Renderer{
		"raw": sink.Raw("graph"), "header": sink.Header("graph"), "json": sink.JSON("graph"),
		"exec_credential": sink.ExecCredential("graph"), "envoy_sds": sink.EnvoySDS("graph"),
		"template": tmpl, "env": env,
	}
}

func TestMissingToken(t *testing.T) {
	other := graph(canary)
	other.Name = "other"
	for name, r := range everyRenderer(t) {
		for state, known := range map[string]token.Token{"unknown": other, "empty": graph("")} {
			t.Run(name+" "+state, func(t *testing.T) {
				_, err := r.Render(having(known))
				var missing *sink.MissingTokenError
				if !errors.As(err, &missing) || missing.Token != "graph" {
					t.Errorf("Render() error = %v", err)
				}
			})
		}
	}
}

func TestNoFormatTakesLineBreaks(t *testing.T) {
	for name, r := range everyRenderer(t) {
		for kind, content := range map[string]string{
			"line feed": canary + "\nX-Admin: yes", "carriage return": canary + "\r", "nul": canary + "\x00",
			"delete": canary + "\x7f", "beyond ascii": canary + "\u2028",
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				_, err := r.Render(having(graph(content)))
				wantError(t, err, `token "graph"`, "RFC 6749")
				if strings.Contains(err.Error(), canary) {
					t.Errorf("the error shows the token: %v", err)
				}
			})
		}
	}
}

func BenchmarkRender(b *testing.B) {
	lookup := having(graph(strings.Repeat("x", 2000)))
	tmpl, err := sink.Template(`[auth]` + "\n" + `bearer = {{ quote (token "graph").AccessToken }}`)
	must(b, err)
	env, err := sink.Env([]sink.Variable{{Name: "GRAPH", Token: "graph"}})
	must(b, err)
	for _, bc := range []struct {
		name     string
		renderer sink.Renderer
	}{{"raw", sink.Raw("graph")}, {"json", sink.JSON("graph")}, {"env", env}, {"template", tmpl}} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bc.renderer.Render(lookup); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
