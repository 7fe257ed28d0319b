package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/credagent/credagent/internal/kubeapi"
	"github.com/credagent/credagent/sink"
)

const (
	defaultSecretType = "Opaque"
	defaultUsername   = "oauth2" // most servers take any name with a token
	objectHint        = "lower-case letters, digits, - and dots, at most 253"
	secretKeyHint     = "letters, digits, -, _ and dots, at most 253"
)

// The presets of a Secret, by who reads it.
const (
	presetFlux         = "flux"
	presetArgoCD       = "argocd"
	presetDockerConfig = "dockerconfigjson"
	presetBasicAuth    = "basic_auth"
)

var presets = map[string]string{
	presetFlux: presetFlux, presetArgoCD: presetArgoCD, presetDockerConfig: presetDockerConfig, presetBasicAuth: presetBasicAuth,
}

// secretTypes are the types of Secrets that presets have.
var secretTypes = map[string]string{presetDockerConfig: "kubernetes.io/dockerconfigjson", presetBasicAuth: "kubernetes.io/basic-auth"}

// forms are the formats of a file sink that a key of a Secret can have, beside fields.
var forms = []string{string(sink.FormatEnvoySDS), string(sink.FormatExecCredential), string(sink.FormatHeader), string(sink.FormatJSON)}

var (
	objectPattern    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`) })
	namespacePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) })
	secretKeyPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`) })
	labelPattern     = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	})
	labelValuePattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$`)
	})
)

// secretSink reads a sink of type kubernetes_secret. Its Path is "namespace/name".
func (v *validator) secretSink(path string, raw rawSink, s *Sink) {
	v.notWith(path, "a Secret", map[string]bool{
		"path": raw.Path.set, "format": raw.Format.set, "template": raw.Template.set, "variables": raw.Variables != nil,
		"mode": raw.Mode.set, "owner": raw.Owner.set, "group": raw.Group.set, "readers": raw.Readers != nil,
	})
	s.Mode = 0
	secret := &Secret{Namespace: v.namespace(join(path, "namespace"), raw.Namespace), Type: defaultSecretType}
	s.Secret = secret
	if name, ok := v.required(path, "name", raw.Name); ok {
		v.matches(join(path, "name"), raw.Name, objectPattern(), objectHint, "the name of a Secret")
		secret.Name = name
	}
	data, labels := v.preset(path, raw)
	if preset, ok := secretTypes[raw.Preset.value]; ok {
		secret.Type = preset
	}
	if secretType, ok := v.optional(join(path, "secret_type"), raw.SecretType); ok {
		secret.Type = secretType
	}
	for _, key := range sortedKeys(data) {
		at := join(join(path, "data"), key)
		if !secretKeyPattern().MatchString(key) {
			v.hinted(at, secretKeyHint, "%s is not a key that a Secret can have", quote(key))
			continue
		}
		secret.Values = append(secret.Values, v.secretValue(at, key, data[key]))
	}
	secret.Labels = v.labels(join(path, "labels"), labels)
	if len(data) == 0 && !v.silenced[join(path, "preset")] && !v.silenced[join(path, "data")] {
		v.problem(path, "want data, preset or both")
	}
	v.needsToken(path, secret)
	if secret.Name != "" {
		s.Path = secret.Path()
		v.writesSecret(join(path, "name"), s.Path)
	}
}

// secretPath names the state's Secret as namespace/name; "" without one.
func (s *State) secretPath() string {
	if s == nil || s.Secret == "" {
		return ""
	}
	return (&Secret{Namespace: kubeapi.Namespace(), Name: s.Secret}).Path()
}

// writesSecret refuses a Secret that another sink writes, or that keeps the state.
func (v *validator) writesSecret(path, object string) {
	if first, taken := v.written[object]; taken {
		v.hinted(path, ownSecretHint, "the same Secret as %s", v.place(first))
		return
	}
	v.written[object] = path
}

// namespace returns the namespace of a key that may be left out in a pod.
func (v *validator) namespace(path string, t text) string {
	value, ok := v.optional(path, t)
	if !ok {
		return kubeapi.Namespace()
	}
	v.matches(path, t, namespacePattern(), "lower-case letters, digits and -, at most 63", "the name of a namespace")
	return value
}

func (v *validator) matches(path string, t text, pattern *regexp.Regexp, hint, what string) {
	if !pattern.MatchString(t.value) {
		v.hinted(path, hint, "%v is not %s", t, what)
	}
}

// needsToken refuses a Secret in which there is no token at all.
func (v *validator) needsToken(path string, secret *Secret) {
	if len(secret.Values) == 0 {
		return
	}
	at := join(path, "data")
	for _, value := range secret.Values {
		if len(value.tokens()) > 0 || v.silenced[join(at, value.Key)] {
			return
		}
	}
	v.hinted(at, "such as { token: NAME }", "no value of it uses a token")
}

// labels returns the labels of a Secret; nil for none.
func (v *validator) labels(path string, all map[string]text) map[string]string {
	var labels map[string]string
	for _, name := range sortedKeys(all) {
		at, value := join(path, name), all[name]
		switch {
		case !labelPattern().MatchString(name):
			v.problem(at, "%s is not the name of a label", quote(name))
		case strings.HasPrefix(name, "credagent.io/"):
			v.problem(at, "labels of credagent.io are set by credagent itself")
		case !value.ok():
		case !labelValuePattern().MatchString(value.value):
			v.hinted(at, "letters, digits, -, _ and dots, at most 63", "%v is not the value of a label", value)
		default:
			if labels == nil {
				labels = map[string]string{}
			}
			labels[name] = value.value
		}
	}
	return labels
}

// secretValue reads a value: a token, a token and a field or a format of it, or a template.
func (v *validator) secretValue(path, key string, t text) SecretValue {
	value := SecretValue{Key: key}
	if !t.ok() {
		return value
	}
	if strings.Contains(t.value, "{{") {
		value.Template = t.value
		v.secretTemplate(path, t)
		return value
	}
	value.Token = t.value
	if _, whole := v.raw.Tokens[t.value]; !whole {
		value.Token, value.Field = cutLast(t.value)
		t.value = value.Token
	}
	if _, found := slices.BinarySearch(v.tokenNames, t.value); !found {
		hint := ""
		if !t.fromEnv {
			hint = didYouMean(t.value, v.tokenNames)
		}
		if hint == "" {
			hint = `a text that is no token is written as a template: '{{ "text" }}'`
		}
		if !v.silenced["tokens"] {
			v.hinted(path, hint, "unknown token %v", t)
		}
		return value
	}
	if value.Field != "" && !slices.Contains(fields, value.Field) && !slices.Contains(forms, value.Field) {
		v.hinted(path, "one of "+strings.Join(fields, ", ")+", or as in a file: "+strings.Join(forms, ", "), "%v asks for a field that a token does not have", t)
	}
	return value
}

// secretTemplate checks a template, which need not use a token: it may be a part that never changes.
func (v *validator) secretTemplate(path string, t text) {
	names, err := templateTokens(t.value)
	switch {
	case err != nil && t.fromEnv:
		v.problem(path, "not a valid template") // the cause would show the variable's value
	case err != nil:
		v.templateProblem(path, err)
	}
	for _, name := range names {
		source := name
		if t.fromEnv {
			source = "${…}"
		}
		v.known(path, "token", text{value: name, source: source, fromEnv: t.fromEnv}, v.tokenNames)
	}
}

// preset returns what a Secret has by its preset and by itself, which wins.
func (v *validator) preset(path string, raw rawSink) (data, labels map[string]text) {
	data, labels = map[string]text{}, map[string]text{}
	if !raw.Preset.set {
		v.notWith(path, "a Secret without a preset", map[string]bool{
			"token": raw.Token.set, "username": raw.Username.set, "url": raw.URL.set, "registry": raw.Registry.set,
		})
	} else if which := oneOf(v, join(path, "preset"), raw.Preset, choice[string]{words: presets}); which != "" {
		data = v.expand(path, which, raw)
		if which == presetArgoCD {
			labels["argocd.argoproj.io/secret-type"] = textOf("repository")
		}
	}
	maps.Copy(data, raw.Data)
	maps.Copy(labels, raw.Labels)
	return data, labels
}

// expand returns the data that a preset stands for.
func (v *validator) expand(path, which string, raw rawSink) map[string]text {
	v.notWith(path, "preset "+which, map[string]bool{
		"username": raw.Username.set && which == presetFlux,
		"url":      raw.URL.set && which != presetArgoCD,
		"registry": raw.Registry.set && which != presetDockerConfig,
	})
	name := v.tokenName(path, "token", raw.Token)
	if name == "" || v.silenced[join(path, "token")] {
		v.silenced[join(path, "preset")] = true // its data is unknown
		return map[string]text{}
	}
	token, username := textOf(name), defaultUsername
	if given, ok := v.optional(join(path, "username"), raw.Username); ok {
		username = given
	}
	switch which {
	case presetFlux:
		return map[string]text{"bearerToken": token}
	case presetArgoCD:
		url := constant(v.requiredPart(path, "url", raw.URL))
		return map[string]text{"type": constant("git"), "url": url, "username": constant(username), "password": token}
	case presetDockerConfig:
		return map[string]text{".dockerconfigjson": textOf(dockerConfig(v.requiredPart(path, "registry", raw.Registry), username, name))}
	default:
		return map[string]text{"username": constant(username), "password": token}
	}
}

func (v *validator) requiredPart(path, key string, t text) string {
	value, _ := v.required(path, key, t)
	return value
}

// constant is a template of a text that does not change.
func constant(value string) text { return textOf("{{ " + strconv.Quote(value) + " }}") }

// dockerConfig is the template of what the kubelet reads as an image pull secret.
func dockerConfig(registry, username, token string) string {
	user, content := strconv.Quote(username), fmt.Sprintf("(token %q).AccessToken", token)
	return fmt.Sprintf(`{"auths":{ {{ quote %s }}:{"username":{{ quote %s }},"password":{{ quote %s }},"auth":{{ quote (base64 (printf "%%s:%%s" %s %s)) }}}}}`,
		strconv.Quote(registry), user, content, user, content)
}

// tokens are the names of the tokens that a value shows.
func (v SecretValue) tokens() []string {
	if v.Template != "" {
		names, _ := templateTokens(v.Template) // validated: it parses
		return names
	}
	return []string{v.Token}
}

// source is how a file has the value.
func (v SecretValue) source() string {
	switch {
	case v.Template != "":
		return v.Template
	case v.Field != "":
		return v.Token + "." + v.Field
	}
	return v.Token
}

// Path names the Secret as namespace/name.
func (s *Secret) Path() string {
	if s.Namespace == "" {
		return s.Name
	}
	return s.Namespace + "/" + s.Name
}

// Renderer returns what renders the value.
func (v SecretValue) Renderer() (sink.Renderer, error) {
	switch {
	case v.Template != "":
		return sink.Template(v.Template)
	case slices.Contains(forms, v.Field):
		return sink.Format(v.Field).Of(v.Token), nil
	}
	return sink.Field(v.Token, v.Field)
}
