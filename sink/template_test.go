package sink_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

func TestTemplate(t *testing.T) {
	mail := graph("mail-token")
	mail.Name = "mail"
	for name, tc := range map[string]struct {
		text   string
		want   string
		tokens []string
	}{
		"every field": {
			`{{ with token "graph" }}{{ .AccessToken }}|{{ .TokenType }}|{{ .ExpiresOn }}|{{ .Expiry }}|{{ .Scope }}|{{ .ClientID }}{{ end }}`,
			canary + "|Bearer|1935810489|2031-05-06T05:08:09Z|read <write>|app-1", []string{"graph"},
		},
		"two tokens": {
			"a = {{ (token \"mail\").AccessToken }}\nb = {{ (token `graph`).AccessToken }}\nc = {{ (token \"mail\").ClientID }}\n",
			"a = mail-token\nb = " + canary + "\nc = app-1\n", []string{"graph", "mail"},
		},
		"json of a field": {`{{ json (token "graph").Scope }}`, `"read <write>"`, []string{"graph"}},
		"json of a token": {`{{ token "mail" | json }}`, `{"access_token":"mail-token","token_type":"Bearer",` +
			`"expires_on":1935810489,"expiry":"2031-05-06T05:08:09Z","refresh_on":1935808689,` +
			`"scope":"read <write>","client_id":"app-1","token":"mail"}`, []string{"mail"}},
		"base64":         {`{{ (token "mail").AccessToken | base64 }}`, "bWFpbC10b2tlbg==", []string{"mail"}},
		"quote":          {"{{ quote \"a\\\"b\\\\c\\n\" }}{{ quote (token `mail`).Scope }}", `"a\"b\\c\n""read <write>"`, []string{"mail"}},
		"variable":       {`{{ $t := token "mail" }}{{ $t.AccessToken }}`, "mail-token", []string{"mail"}},
		"branches":       {`{{ if true }}{{ (token "mail").ClientID }}{{ else }}{{ (token "graph").ClientID }}{{ end }}`, "app-1", []string{"graph", "mail"}},
		"range":          {`{{ range 2 }}{{ (token "mail").ClientID }};{{ end }}`, "app-1;app-1;", []string{"mail"}},
		"named template": {`{{ define "x" }}{{ .AccessToken }}{{ end }}{{ template "x" (token "mail") }}`, "mail-token", []string{"mail"}},
		"no token":       {`a = 1`, "a = 1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := sink.Template(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(r.Tokens(), tc.tokens) {
				t.Errorf("Tokens() = %q, want %q", r.Tokens(), tc.tokens)
			}
			got, err := r.Render(having(graph(canary), mail))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestTemplateFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"syntax":             {"a\nb {{ if }}", []string{"line 2: missing value for if"}},
		"unclosed":           {"a\n{{ (token \"graph\"", []string{"line 2:", "unclosed"}},
		"unknown function":   {"\n\n{{ env \"HOME\" }}", []string{`line 3: function "env" not defined`}},
		"name from variable": {"{{ $n := \"graph\" }}\n{{ (token $n).AccessToken }}", []string{"line 2:", "token takes one name"}},
		"name from function": {`{{ (token (print "gr" "aph")).AccessToken }}`, []string{"line 1:", "token takes one name"}},
		"name from pipe":     {`{{ ("graph" | token).AccessToken }}`, []string{"line 1:", "token takes one name"}},
		"second name piped":  {`{{ "graph" | token "mail" }}`, []string{"line 1:", "token takes one name"}},
		"no name":            {`{{ with token }}{{ end }}`, []string{"line 1:", "token takes one name"}},
		"two names":          {`{{ with token "graph" "mail" }}{{ end }}`, []string{"line 1:", "token takes one name"}},
		"number":             {`{{ with token 1 }}{{ end }}`, []string{"line 1:", "token takes one name"}},
		"as an argument":     {`{{ print token }}`, []string{"line 1:", "token takes one name"}},
		"in else":            {`{{ if false }}{{ else }}{{ print token }}{{ end }}`, []string{"token takes one name"}},
		"in range":           {`{{ range token }}{{ end }}`, []string{"token takes one name"}},
		"in template call":   {`{{ define "x" }}{{ end }}{{ template "x" token }}`, []string{"token takes one name"}},
		"in a definition":    {"{{ define \"x\" }}\n{{ print token }}{{ end }}", []string{"line 2:", "token takes one name"}},
		"without a field":    {"\n{{ token \"graph\" }}", []string{"line 2:", "needs a field"}},
		"unknown field":      {"\n{{ (token \"graph\").AccesToken }}", []string{"line 2:", "no field .AccesToken", ".AccessToken"}},
		"field of a string":  {`{{ (token "graph").AccessToken.Length }}`, []string{"line 1:", ".Length has no fields"}},
		"in a with":          {"\n{{ with token \"graph\" }}\n{{ .Secret }}{{ end }}", []string{"line 3:", "no field .Secret"}},
		"no token before it": {"\n{{ .Values }}", []string{"line 2:", "no token is named"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sink.Template(tc.text)
			wantError(t, err, append(tc.want, "parsing template: ")...)
		})
	}
}

// TestFieldsThatAreNone: only those that the documents name are fields, however they are reached.
func TestFieldsThatAreNone(t *testing.T) {
	for _, field := range []string{"Token", "RefreshOn", "all", "All", "Name", "access_token", "accessToken", "MarshalJSON", "String", "expires_on"} {
		for _, text := range []string{
			`{{ (token "graph").FIELD }}`, `{{ $t := token "graph" }}{{ $t.FIELD }}`, `{{ with token "graph" }}{{ .FIELD }}{{ end }}`,
			`{{ define "x" }}{{ .FIELD }}{{ end }}{{ template "x" (token "graph") }}`, `{{ ((token "graph")).FIELD }}`,
		} {
			_, err := sink.Template(strings.ReplaceAll(text, "FIELD", field))
			wantError(t, err, "line 1:", "a token has no field ."+field, ".")
		}
	}
}

// TestTemplateHints are mistakes that people bring along from other templates.
func TestTemplateHints(t *testing.T) {
	for text, want := range map[string]string{
		`{{ (token "graph").AccessToken | toJSON }}`:       "use json",
		`{{ (token "graph").AccessToken | toJson }}`:       "use json",
		`{{ (token "graph").AccessToken | b64enc }}`:       "use base64",
		`{{ (token "graph").AccessToken | base64Encode }}`: "use base64",
		`{{ (token "graph").AccessToken | squote }}`:       "use quote",
		`{{ (token "graph").AccessToken | JSON }}`:         "json, in lower case",
		`{{ (Token "graph").AccessToken }}`:                "token, in lower case",
		`{{ (token "graph").AccessToken | trim }}`:         "no such function",
		`{{ (token "graph").AccessToken | mustToJson }}`:   "use json",
		`{{ env "HOME" }}`:                                 "use ${NAME}",
		`{{ with secret "graph" }}{{ end }}`:               `(token "graph").AccessToken`,
		`{{ frobnicate 1 }}`:                               "there are token, json, base64 and quote",
		`{{ (token graph).AccessToken }}`:                  `(token "graph").AccessToken`,
		`{{ (token my_graph).AccessToken }}`:               `(token "my_graph").AccessToken`,
		`{{ (token 'graph').AccessToken }}`:                "double quotes",
		`{{ (token “graph”).AccessToken }}`:                "plain quotes",
		`{{ token "graph".AccessToken }}`:                  "parentheses",
		`{{ token.graph }}`:                                "in quotes",
		`{{ $graph.AccessToken }}`:                         "variable of the template's own",
		`{{ .graph.AccessToken }}`:                         `(token "graph").AccessToken`,
		`{{ .AccessToken }}`:                               `(token "graph").AccessToken`,
		`{{ (token "graph").access_token }}`:               "did you mean .AccessToken?",
		`{{ (token "graph").Expires }}`:                    "did you mean .ExpiresOn?",
		`{{ (token "graph").AccessToken `:                  "needs its }}",
		`{{ (token "graph").AccessToken }`:                 "needs its }}",
		`{{ (token "graph).AccessToken }}`:                 "each quote",
		`{{ if true }}{{ (token "graph").AccessToken }}`:   "{{ end }}",
		`{{ range .Tokens }}{{ .AccessToken }}{{ end }}`:   `(token "graph").AccessToken`,
	} {
		t.Run(text, func(t *testing.T) {
			_, err := sink.Template("first = 1\nsecond = " + text)
			var mistake *sink.TemplateError
			if !errors.As(err, &mistake) {
				t.Fatalf("Template() = %v", err)
			}
			if mistake.Line != 2 || !strings.Contains(mistake.Hint, want) {
				t.Errorf("line %d: %q, hint %q; want %q", mistake.Line, mistake.Message, mistake.Hint, want)
			}
		})
	}
}

func TestTemplateErrorsShowNoToken(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"range over a string":  {`{{ range (token "graph").AccessToken }}{{ end }}`, "line 1:16: executing"},
		"a field in a branch":  {`{{ if eq (token "graph").Scope "read <write>" }}{{ with token "graph" }}{{ .Secret }}{{ end }}{{ end }}`, "can't evaluate field Secret"},
		"range over a token":   {`{{ range token "graph" }}{{ end }}`, "range can't iterate over"},
		"range over a part":    {`{{ range slice (token "graph").AccessToken 0 8 }}{{ end }}`, "range can't iterate over"},
		"index beyond":         {`{{ index (token "graph").AccessToken 999 }}`, "index out of range"},
		"call":                 {`{{ call (token "graph").AccessToken }}`, "non-function"},
		"comparison":           {`{{ lt (token "graph").AccessToken 3 }}`, "incompatible types"},
		"only with this token": {`{{ if eq (token "graph").AccessToken "` + canary + `" }}{{ range (token "graph").AccessToken }}{{ end }}{{ end }}`, "not shown here"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := sink.Template(tc.text)
			must(t, err)
			_, err = r.Render(having(graph(canary)))
			wantError(t, err, "executing template: ", tc.want)
			if strings.Contains(err.Error(), canary[:8]) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

func TestTemplateSeesOneIssueOfAToken(t *testing.T) {
	r, err := sink.Template(`{{ (token "graph").AccessToken }} {{ (token "graph").AccessToken }}`)
	must(t, err)
	calls := 0
	got, err := r.Render(func(string) (token.Token, bool) {
		calls++
		return graph(strings.Repeat("x", calls)), true
	})
	must(t, err)
	if string(got) != "x x" {
		t.Errorf("rendered %q", got)
	}
}

func FuzzTemplate(f *testing.F) {
	for _, text := range []string{
		`bearer = {{ (token "graph").AccessToken }}`, `{{ token "graph" | json }}`, `{{ define "x" }}{{ end }}`,
		`{{ with token "graph" }}{{ .Nope }}{{ else }}{{ end }}`, `{{ quote (base64 "x") }}`, `{{ "graph" | token }}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// Loops and recursion may take for ever by right, and a text may spell out the token.
		if strings.Contains(text, "range") || strings.Contains(text, "template") || strings.Contains(text, "block") {
			t.Skip()
		}
		r, err := sink.Template(text)
		if err != nil {
			return
		}
		allowed := r.Tokens()
		_, err = r.Render(func(name string) (token.Token, bool) {
			if !slices.Contains(allowed, name) {
				t.Errorf("asked for token %q, not one of %q", name, allowed)
			}
			return graph(canary), true
		})
		if err != nil && strings.Contains(err.Error(), canary) && !strings.Contains(text, canary) {
			t.Errorf("the error shows the token: %v", err)
		}
	})
}

func FuzzQuote(f *testing.F) {
	f.Add("a\"b\\c\n\t<&>\u2028")
	f.Fuzz(func(t *testing.T, scope string) {
		r, err := sink.Template(`{{ quote (token "graph").Scope }}`)
		must(t, err)
		tok := graph(canary)
		tok.Scope = strings.ToValidUTF8(scope, "")
		quoted, err := r.Render(having(tok))
		must(t, err)
		var back string
		must(t, json.Unmarshal(quoted, &back))
		if back != tok.Scope || strings.ContainsAny(string(quoted), "\r\n") {
			t.Errorf("%q was quoted as %s", tok.Scope, quoted)
		}
	})
}
