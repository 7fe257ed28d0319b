package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Empty returns a default configuration without clients, tokens and sinks, for a program that adds them one by one.
func Empty() *Config {
	return &Config{Log: newValidator(&rawFile{}).log(nil), Plugins: DefaultPlugins()}
}

// CompleteClient returns a client that a program has built, with defaults for omitted fields.
// The rules are those of the configuration file; its error is an [*Error].
func CompleteClient(c Client) (Client, error) {
	v := newValidator(&rawFile{})
	path := join("clients", c.Name)
	v.checkName(path, c.Name)
	raw := rawClient{
		Issuer: textOf(c.Issuer), TokenURL: textOf(c.TokenURL), ClientID: textOf(c.ClientID), CAFile: textOf(c.CAFile), Proxy: textOf(c.Proxy),
		RequestTimeout: duration{stringOf(c.RequestTimeout)}, AllowInsecureHTTP: c.AllowInsecureHTTP,
		Credential: v.rawCredential(join(path, "credential"), &c.Credential), FallbackCredential: v.rawCredential(join(path, "fallback_credential"), c.FallbackCredential),
	}
	if c.Entra != nil {
		raw.Entra = &rawEntra{Tenant: textOf(c.Entra.Tenant), Authority: textOf(c.Entra.Authority)}
	}
	complete := v.client(path, c.Name, raw)
	return complete, v.err()
}

// CompleteToken is [CompleteClient] for a token, which is issued to the client of.
func CompleteToken(t Token, of Client) (Token, error) {
	v := newValidator(&rawFile{})
	path := join("tokens", t.Name)
	raw := rawToken{
		SubjectTokenType: textOf(t.SubjectTokenType), RequestedTokenType: textOf(t.RequestedTokenType),
		Grant: textOf(string(t.Grant)), Subject: textOf(t.Subject), AssertionClaims: v.rawObject(join(path, "assertion_claims"), t.AssertionClaims),
		Client: textOf(t.Client), Scopes: textsOf(t.Scopes), Audience: textOf(t.Audience), Resources: textsOf(t.Resources), Claims: textOf(t.Claims),
		CAE: t.CAE, DefaultLifetime: duration{stringOf(t.DefaultLifetime)}, Allow: rawPrincipals(t.Allow),
	}
	if t.RefreshAt != 0 {
		raw.RefreshAt = percent{textOf(strconv.FormatFloat(math.Round(1e5*t.RefreshAt)/1e3, 'f', -1, 64) + "%")}
	}
	for name, value := range t.Params {
		if raw.Params == nil {
			raw.Params = map[string]text{}
		}
		raw.Params[name] = text{value: value, source: value, set: true}
	}
	client := rawClient{Credential: newValidator(&rawFile{}).rawCredential("", &of.Credential)}
	if of.Entra != nil {
		client.Entra = &rawEntra{} // whose rules for scopes hold
	}
	v.raw.Clients = map[string]rawClient{of.Name: client}
	v.checkName(path, t.Name)
	if _, ok := v.required(path, "client", raw.Client); ok {
		v.known(join(path, "client"), "client", raw.Client, []string{of.Name})
	}
	complete := v.token(path, t.Name, raw)
	return complete, v.err()
}

// CompleteSink is [CompleteClient] for a sink. It does not check whether the sink's tokens exist.
func CompleteSink(s Sink) (Sink, error) {
	file := &rawFile{Tokens: map[string]rawToken{}}
	for _, name := range s.tokens() {
		file.Tokens[name] = rawToken{}
	}
	raw := rawSink{
		Type: textOf(string(s.Type)), Path: textOf(s.Path), Token: textOf(s.Token), Format: textOf(string(s.Format)), Template: textOf(s.Template),
		Owner: name{textOf(s.Owner)}, Group: name{textOf(s.Group)}, Readers: rawPrincipals(s.Readers),
	}
	if s.Mode != 0 {
		raw.Mode = mode{textOf(fmt.Sprintf("%04o", uint32(s.Mode)))}
	}
	if s.Secret != nil {
		raw.Path = text{}
		s.Secret.fill(&raw)
	}
	if s.Variables != nil {
		raw.Variables = make(map[string]text, len(s.Variables))
	}
	for _, variable := range s.Variables {
		raw.Variables[variable.Name] = textOf(sourceOf(variable))
	}
	for _, a := range s.OnChange {
		raw.OnChange = append(raw.OnChange, a.raw())
	}
	at := s.Path
	if s.Secret != nil {
		at = s.Secret.Path()
	}
	v := newValidator(file)
	complete := v.sink(join("sinks", at), raw)
	return complete, v.err()
}

// fill puts into a raw sink what a file would have of the Secret.
func (s *Secret) fill(raw *rawSink) {
	raw.Namespace, raw.Name, raw.SecretType = textOf(s.Namespace), textOf(s.Name), textOf(s.Type)
	raw.Data = make(map[string]text, len(s.Values))
	for _, v := range s.Values {
		raw.Data[v.Key] = textOf(v.source())
	}
	for name, value := range s.Labels {
		if raw.Labels == nil {
			raw.Labels = map[string]text{}
		}
		raw.Labels[name] = text{value: value, source: value, set: true}
	}
}

// source is how a file has the variable.
func sourceOf(v Variable) string {
	if v.Field == "" {
		return v.Token
	}
	return v.Token + "." + v.Field
}

func (a Action) raw() rawAction {
	var raw rawAction
	if s := a.Signal; s != nil {
		raw.Signal = &rawSignal{PIDFile: textOf(s.PIDFile), Signal: textOf(s.Signal)}
	}
	if c := a.Command; c != nil {
		raw.Command = &rawCommand{Timeout: duration{stringOf(c.Timeout)}}
		for _, word := range c.Run {
			raw.Command.Run = append(raw.Command.Run, text{value: word, source: word, set: true})
		}
	}
	return raw
}

// rawCredential returns a credential as in a file; nil for none, which is an error for the first one.
func (v *validator) rawCredential(path string, c *Credential) *rawCredential {
	if c == nil || c.Provider == "" && len(c.Config) == 0 {
		return nil
	}
	return &rawCredential{Provider: textOf(c.Provider), Config: v.rawObject(join(path, "config"), c.Config)}
}

// rawObject is a JSON object as a file has a mapping.
func (v *validator) rawObject(path string, data json.RawMessage) object {
	if len(data) == 0 {
		return object{}
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	err := decoder.Decode(&value)
	values, isObject := value.(map[string]any)
	if err != nil || !isObject || decoder.More() {
		v.problem(path, "not a JSON object") // the cause could show its content
		return object{}
	}
	v.refuseSecrets(path, values, 0)
	return object{values}
}

// refuseSecrets reports keys that would hold a secret itself, as in a file.
func (v *validator) refuseSecrets(path string, value any, depth int) {
	if depth > maxDepth {
		v.problem(path, "nested more than %d deep", maxDepth)
		return
	}
	switch value := value.(type) {
	case map[string]any:
		for _, key := range sortedKeys(value) {
			if isSecretKey(key) {
				v.hinted(join(path, key), secretHint, "a secret in key %s", quote(key))
				continue
			}
			v.refuseSecrets(join(path, key), value[key], depth+1)
		}
	case []any:
		for i, item := range value {
			v.refuseSecrets(index(path, i), item, depth+1)
		}
	}
}

// textOf returns a value as if read from a file; an empty one is omitted.
func textOf(s string) text { return text{value: s, source: s, set: s != ""} }

func textsOf(values []string) []text {
	var all []text
	for _, s := range values {
		all = append(all, text{value: s, source: s, set: true})
	}
	return all
}

// stringOf returns a printable value as if read from a file; the zero value is omitted.
func stringOf[T interface {
	comparable
	String() string
}](value T) text {
	var zero T
	if value == zero {
		return text{}
	}
	return textOf(value.String())
}

func rawPrincipals(all []Principal) []rawPrincipal {
	var raw []rawPrincipal
	for _, p := range all {
		raw = append(raw, rawPrincipal{User: name{textOf(p.User)}, Group: name{textOf(p.Group)}})
	}
	return raw
}
