package config

import (
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	defaultListen         = "127.0.0.1:9465"
	defaultPluginDir      = "/usr/lib/credagent/plugins"
	defaultRefreshAt      = 0.5
	defaultLifetime       = 5 * time.Minute
	defaultSinkMode       = fs.FileMode(0o600)
	defaultSocketMode     = fs.FileMode(0o660)
	defaultIdleTimeout    = time.Minute
	defaultMaxProcesses   = 16
	mostProcesses         = 1000
	defaultRequestTimeout = 10 * time.Second
	defaultCommandTimeout = 10 * time.Second
)

var (
	namePattern     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`) })
	providerPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`) })
	digestPattern   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9A-Fa-f]{64}$`) })
	modePattern     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^0?[0-7]{3,4}$`) })
	percentPattern  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]{1,2}(\.[0-9]{1,3})?%$`) })
	userPattern     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][^\s:,/\\]{0,255}$`) })
)

var (
	logLevels = map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	logFormats = map[string]bool{"text": false, "json": true}
)

// validator turns the raw configuration into a [Config] and reports every rule it breaks.
type validator struct {
	*report
	raw        *rawFile
	tokenNames []string          // sorted
	used       map[string]bool   // clients that a token names
	written    map[string]string // file → the path in the configuration of the output
}

func newValidator(raw *rawFile) *validator {
	return &validator{
		report: newReport(""), raw: raw,
		tokenNames: sortedKeys(raw.Tokens),
		used:       map[string]bool{},
		written:    map[string]string{},
	}
}

// validate turns the raw configuration into a Config, and reports problems.
func validate(r *report, raw *rawFile) *Config {
	v := newValidator(raw)
	v.report = r
	c := &Config{
		Source:   r.source,
		Log:      v.log(raw.Log),
		Watch:    raw.Watch,
		Listen:   v.listen(raw.Listen),
		Socket:   v.socket(raw.Socket),
		Identity: v.identity(raw.IdentityEndpoint),
		Sidecar:  v.sidecar(raw.AuthSidecar),
		Signals:  v.streams(),
		State:    v.state(raw.State),
		Plugins:  v.plugins(raw.Plugins),
		Clients:  v.clients(),
		Tokens:   v.tokens(),
		Sinks:    v.sinks(),
	}
	v.separateListeners(c)
	v.unusedClients()
	c.variables = r.variables
	v.separateOutputs(c)
	v.ownFiles(c)
	return c
}

// sound returns the configuration if it has no problems.
func (c *Config) sound(r *report) (*Config, error) {
	if err := r.err(); err != nil {
		return nil, err
	}
	c.Warnings, c.positions, c.variables, c.expanded = r.warnings, lasting(r.positions), r.variables, r.expanded
	return c, nil
}

func (v *validator) log(raw *rawLog) Log {
	if raw == nil {
		raw = &rawLog{}
	}
	return Log{
		Level: oneOf(v, "log.level", raw.Level, choice[slog.Level]{logLevels, "info"}),
		JSON:  oneOf(v, "log.format", raw.Format, choice[bool]{logFormats, "text"}),
	}
}

func (v *validator) state(raw *rawState) *State {
	if raw == nil {
		return nil
	}
	s := &State{KeyFile: v.secretFile("state", "key_file", raw.KeyFile)}
	if raw.KubernetesSecret == nil {
		s.Dir = v.file("state", "dir", raw.Dir)
		return s
	}
	const at = "state.kubernetes_secret"
	if raw.Dir.set {
		v.problem(at, "want exactly one of dir and kubernetes_secret")
	}
	if name, ok := v.required(at, "name", raw.KubernetesSecret.Name); ok && v.mapped(at) {
		v.matches(join(at, "name"), raw.KubernetesSecret.Name, objectPattern(), objectHint, "the name of a Secret")
		s.Secret = name
		v.writesSecret(join(at, "name"), s.secretPath())
	}
	return s
}

func (v *validator) plugins(raw *rawPlugins) Plugins {
	if raw == nil {
		raw = &rawPlugins{}
	}
	p := Plugins{
		Dirs:         []string{defaultPluginDir},
		IdleTimeout:  v.duration("plugins.idle_timeout", raw.IdleTimeout, limits{time.Second, 24 * time.Hour, defaultIdleTimeout}),
		MaxProcesses: v.number("plugins.max_processes", raw.MaxProcesses, defaultMaxProcesses, mostProcesses),
	}
	if raw.Dirs != nil {
		p.Dirs = make([]string, len(raw.Dirs))
	}
	for i, dir := range raw.Dirs {
		p.Dirs[i] = v.absolute(index("plugins.dirs", i), dir)
	}
	for _, name := range sortedKeys(raw.SHA256) {
		path, digest := join("plugins.sha256", name), raw.SHA256[name]
		v.providerName(path, name)
		if !digest.ok() {
			continue
		}
		if !digestPattern().MatchString(digest.value) {
			v.hinted(path, "sha256sum of the executable prints it", "not a SHA-256 digest of 64 hexadecimal digits")
			continue
		}
		if p.SHA256 == nil {
			p.SHA256 = map[string]string{}
		}
		p.SHA256[name] = strings.ToLower(digest.value)
	}
	return p
}

func (v *validator) providerName(path, name string) {
	if !providerPattern().MatchString(name) {
		v.problem(path, "a provider's name has lower-case letters, digits, - and _ only")
	}
}

// checkName checks the name that the configuration gives a client or a token.
func (v *validator) checkName(path, name string) {
	if !namePattern().MatchString(name) {
		v.add(path, "letters, digits, dots, - and _, starting with a letter or digit, at most 63", quote(name)+" is not a name")
	}
}

// required returns the value of a mandatory key.
func (v *validator) required(path, key string, t text) (string, bool) {
	if !t.set {
		v.missing(path, key)
		return "", false
	}
	if t.ok() && t.value == "" {
		v.problem(join(path, key), "empty")
		return "", false
	}
	return v.optional(join(path, key), t)
}

// optional returns the value of an optional key. An empty one counts as omitted,
// so that an environment variable can decide.
func (v *validator) optional(path string, t text) (string, bool) {
	if !t.ok() || t.value == "" {
		return "", false
	}
	if strings.ContainsFunc(t.value, unicode.IsControl) {
		v.problem(path, "a line break or another control character in the value")
		return "", false
	}
	return t.value, true
}

// file returns the absolute path in a mandatory key.
func (v *validator) file(path, key string, t text) string {
	if _, ok := v.required(path, key, t); !ok {
		return ""
	}
	return v.absolute(join(path, key), t)
}

// secretFile is file for a key where people put the secret itself: its value is not shown.
func (v *validator) secretFile(path, key string, t text) string {
	value, ok := v.required(path, key, t)
	if !ok {
		return ""
	}
	if !filepath.IsAbs(value) {
		v.problem(join(path, key), "not an absolute path")
		return ""
	}
	return filepath.Clean(value)
}

// absolute returns a clean absolute path, or "" for an empty value.
func (v *validator) absolute(path string, t text) string {
	value, ok := v.optional(path, t)
	if !ok {
		return ""
	}
	if !filepath.IsAbs(value) {
		v.problem(path, "%v is not an absolute path", t)
		return ""
	}
	return filepath.Clean(value)
}

// writes records that credagent will write the file at path, and refuses a second use of it.
func (v *validator) writes(path, file string) {
	if file == "" {
		return
	}
	if first, taken := v.written[file]; taken {
		v.problem(path, "the same file as %s", v.place(first))
		return
	}
	v.written[file] = path
}

// place names another part of the configuration in a message.
func (v *validator) place(path string) string {
	if at := locate(v.positions, path); at.Line != 0 {
		return v.name(path) + " in line " + strconv.Itoa(at.Line)
	}
	return v.name(path)
}

type limits struct {
	least, most, otherwise time.Duration
}

func (v *validator) duration(path string, t duration, l limits) time.Duration {
	if !t.ok() || t.value == "" {
		return l.otherwise
	}
	value, err := time.ParseDuration(t.value)
	switch {
	case err != nil:
		v.hinted(path, "a duration such as 90s", "%v is not a duration", t.text)
	case value < l.least:
		v.problem(path, "%v is shorter than %s", t.text, short(l.least))
	case value > l.most:
		v.problem(path, "%v is longer than %s", t.text, short(l.most))
	default:
		return value
	}
	return l.otherwise
}

// number reads a whole number from 1 to most.
func (v *validator) number(path string, t number, otherwise, most int) int {
	if !t.ok() {
		return otherwise
	}
	value, err := strconv.Atoi(t.value)
	if err != nil || value < 1 || value > most {
		v.problem(path, "%v is not a whole number from 1 to %d", t.text, most)
		return otherwise
	}
	return value
}

// modeRule is the rule for a mode at some path.
type modeRule struct {
	otherwise fs.FileMode
	needed    fs.FileMode // bits without which the file is useless
	allowed   fs.FileMode
}

// modeRuleOf returns the rule for the mode at a path.
func modeRuleOf(path string) modeRule {
	if path == "socket.mode" {
		return modeRule{defaultSocketMode, 0o600, 0o666}
	}
	return modeRule{defaultSinkMode, 0o400, 0o644}
}

// wrong describes what is wrong with a mode; "" for nothing.
func (r modeRule) wrong(text string) string {
	bits, err := strconv.ParseUint(text, 8, 32)
	if err != nil || !modePattern().MatchString(text) {
		return "is not a file mode"
	}
	value := fs.FileMode(bits)
	switch {
	case value&0o7000 != 0:
		return "has the setuid, setgid or sticky bit"
	case value&0o111 != 0:
		return "makes the file executable"
	case value&0o002&^r.allowed != 0:
		return "lets everybody write"
	case value&^r.allowed != 0:
		return "lets the group write"
	case value&r.needed != r.needed:
		return "keeps the owner out"
	}
	return ""
}

// hint suggests a valid mode: for a file, one that a group can read.
func (r modeRule) hint() string {
	return fmt.Sprintf(`octal digits in quotes, such as "%04o"`, r.otherwise|0o040)
}

func (v *validator) mode(path string, t mode) fs.FileMode {
	rule := modeRuleOf(path)
	if !t.ok() || t.value == "" {
		return rule.otherwise
	}
	if wrong := rule.wrong(t.value); wrong != "" {
		v.hinted(path, rule.hint(), "%v %s", t.text, wrong)
		return rule.otherwise
	}
	bits, _ := strconv.ParseUint(t.value, 8, 32) // it was checked to be octal
	return fs.FileMode(bits)
}

func (v *validator) refreshAt(path string, t percent) float64 {
	if !t.ok() || t.value == "" {
		return defaultRefreshAt
	}
	number, err := strconv.ParseFloat(strings.TrimSuffix(t.value, "%"), 64)
	if err != nil || !percentPattern().MatchString(t.value) {
		v.hinted(path, "a share such as 50%", "%v is not a percentage", t.text)
		return defaultRefreshAt
	}
	if number < 10 || number > 95 {
		v.problem(path, "%v is outside 10%% to 95%%", t.text)
	}
	return number / 100
}

func (v *validator) principals(path string, raw []rawPrincipal) []Principal {
	var principals []Principal
	for i, p := range raw {
		at := index(path, i)
		if p.User.set == p.Group.set {
			v.problem(at, "want exactly one of user and group")
			continue
		}
		principals = append(principals, Principal{
			User:  v.account(join(at, "user"), p.User),
			Group: v.account(join(at, "group"), p.Group),
		})
		if p.User.ok() && p.User.value == "" || p.Group.ok() && p.Group.value == "" {
			v.problem(at, "an empty name")
		}
	}
	return principals
}

// account returns the name or number of a user or group.
func (v *validator) account(path string, t name) string {
	value, ok := v.optional(path, t.text)
	if !ok {
		return ""
	}
	if !userPattern().MatchString(value) {
		v.problem(path, "%v is not the name or number of a user or group", t.text)
		return ""
	}
	// The highest number means "no change" to chown(2).
	if n, err := strconv.ParseUint(value, 10, 64); isNumber(value) && (err != nil || n >= math.MaxUint32) {
		v.problem(path, "%v is too large for the number of a user or group", t.text)
	}
	return value
}

// choice is a closed set of words and their values.
type choice[T any] struct {
	words     map[string]T
	otherwise string // the default word
}

func oneOf[T any](v *validator, path string, t text, c choice[T]) T {
	if !t.ok() || t.value == "" {
		return c.words[c.otherwise]
	}
	meaning, ok := c.words[t.value]
	if ok {
		return meaning
	}
	words := sortedKeys(c.words)
	hint := ""
	if !t.fromEnv {
		hint = didYouMean(t.value, words)
	}
	v.hinted(path, hint, "unknown value %v, want one of %s", t, strings.Join(words, ", "))
	return c.words[c.otherwise]
}

// known reports whether a name is defined, and reports a problem at path if it is not.
func (v *validator) known(path, kind string, t text, names []string) bool {
	if _, found := slices.BinarySearch(names, t.value); found {
		return true
	}
	if v.silenced[kind+"s"] {
		return false // their mapping is itself wrong
	}
	hint := ""
	if !t.fromEnv {
		hint = didYouMean(t.value, names)
	}
	v.hinted(path, hint, "unknown %s %v", kind, t)
	return false
}

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
