package sink_test

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/sink"
)

const plainCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=:,@%!#*?[]{}^"

// The generator reads environment.d files with systemd's own parser of EnvironmentFile=.
const systemdGenerator = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"

func TestEnv(t *testing.T) {
	variables := []sink.Variable{
		{Name: "TOKEN", Token: "graph"}, {Name: "AGAIN", Token: "graph", Field: "access_token"},
		{Name: "TYPE", Token: "graph", Field: "token_type"}, {Name: "ENDS", Token: "graph", Field: "expires_on"},
		{Name: "ENDS_AT", Token: "graph", Field: "expiry"}, {Name: "RENEWS", Token: "graph", Field: "refresh_on"},
		{Name: "SCOPE", Token: "mail", Field: "scope"}, {Name: "CLIENT", Token: "mail", Field: "client_id"},
		{Name: "_name2", Token: "mail", Field: "token"},
	}
	mail := graph("m")
	mail.Name, mail.Scope = "mail", ""
	r, err := sink.Env(variables)
	must(t, err)
	got, err := r.Render(having(graph(canary), mail))
	must(t, err)
	want := "TOKEN=" + canary + "\nAGAIN=" + canary + "\nTYPE=Bearer\nENDS=1935810489\nENDS_AT=2031-05-06T05:08:09Z\n" +
		"RENEWS=1935808689\nSCOPE=\nCLIENT=app-1\n_name2=mail\n"
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if names := r.Tokens(); !slices.Equal(names, []string{"graph", "mail"}) {
		t.Errorf("Tokens() = %q", names)
	}
}

func TestEnvFaults(t *testing.T) {
	one := func(name, field string) []sink.Variable {
		return []sink.Variable{{Name: name, Token: "graph", Field: field}}
	}
	for name, tc := range map[string]struct {
		variables []sink.Variable
		want      []string
	}{
		"none":             {nil, []string{"at least one"}},
		"empty name":       {one("", ""), []string{`variable ""`, "letters, digits"}},
		"digit first":      {one("1A", ""), []string{`variable "1A"`, "no digit first"}},
		"hyphen":           {one("A-B", ""), []string{`variable "A-B"`}},
		"letter of others": {one("É", ""), []string{"letters, digits"}},
		"line break":       {one("A\nB", ""), []string{`variable "A\nB"`}},
		"read-only":        {one("UID", ""), []string{`variable "UID"`, "shells keep"}},
		"counter":          {one("RANDOM", ""), []string{"shells keep"}},
		"bash":             {one("BASH_ENV", ""), []string{"shells keep"}},
		"unknown field":    {one("A", "expires"), []string{`variable "A"`, `field "expires"`, "expires_on"}},
		"no token":         {[]sink.Variable{{Name: "A"}}, []string{`variable "A"`, "names no token"}},
		"twice": {[]sink.Variable{{Name: "A", Token: "graph"}, {Name: "A", Token: "mail"}},
			[]string{`variable "A"`, "set twice"}},
		"all at once": {append(one("1A", ""), one("B", "no")...), []string{`variable "1A"`, `variable "B"`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sink.Env(tc.variables)
			wantError(t, err, tc.want...)
		})
	}
}

func renderValue(t *testing.T, value string) ([]byte, error) {
	t.Helper()
	r, err := sink.Env([]sink.Variable{{Name: "V", Token: "graph", Field: "client_id"}})
	must(t, err)
	tok := graph(canary)
	tok.ClientID = value
	return r.Render(having(tok))
}

func TestEnvRefusesWhatIsReadDifferently(t *testing.T) {
	values := map[string]string{
		"tilde first": "~root", "tilde after colon": "a:~root", "tilde alone": "~",
		"equals sign first": "=ls", "equals sign after colon": "a:=ls",
		"more than docker reads": strings.Repeat("x", 64<<10-2),
	}
	for b := range 256 {
		c := string([]byte{byte(b)})
		if strings.Contains(plainCharacters, c) {
			continue
		}
		values[fmt.Sprintf("%#02x first", b)] = c + canary
		values[fmt.Sprintf("%#02x inside", b)] = canary + c + canary
		values[fmt.Sprintf("%#02x last", b)] = canary + c
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			_, err := renderValue(t, value)
			wantError(t, err, `variable "V"`, "use a file sink")
			if strings.Contains(err.Error(), canary) || len(err.Error()) > 200 {
				t.Errorf("the error shows the value: %v", err)
			}
		})
	}
}

// everyPair returns variables for all values of two plain characters that Env takes, and more.
func everyPair(t *testing.T) (file []byte, want map[string]string) {
	t.Helper()
	want = make(map[string]string)
	add := func(value string) {
		line, err := renderValue(t, value)
		if err != nil {
			return
		}
		name := fmt.Sprintf("V%d", len(want))
		file = append(file, bytes.Replace(line, []byte("V="), []byte(name+"="), 1)...)
		want[name] = value
	}
	for _, a := range plainCharacters {
		for _, b := range plainCharacters {
			add(string(a) + string(b))
			add("x" + string(a) + string(b))
		}
	}
	longest := strings.Repeat("x", 64<<10-len("V12345=\n"))
	for _, value := range []string{longest, "QUJD==", "a.b-c_d~e+f/g=", "https://graph.example/.default", "-n", "2031-05-06T05:08:09Z",
		"00D50000000IZ3Z!AQ0AQDpEDKYsn7ioKug2aSmgCjgrPjG_abc.def", "!!", "!1", "{a,b}", "a{1..3}b", "[a-z]*", "#x#", "a^b^c", "a=~b", "*", "app.env*"} {
		add(value)
	}
	if len(want) < 2*70*70 {
		t.Fatalf("Env takes only %d of the values", len(want))
	}
	return file, want
}

func TestEnvReadAlike(t *testing.T) {
	file, want := everyPair(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "app.env")
	must(t, os.WriteFile(path, file, 0o600))
	for name, read := range map[string]func(*testing.T) (map[string]string, error){
		"docker's rule":  func(*testing.T) (map[string]string, error) { return readAsDocker(file) },
		"systemd's rule": func(*testing.T) (map[string]string, error) { return readAsSystemd(file) },
		"shell's rule":   func(*testing.T) (map[string]string, error) { return readAsShell(file) },
		"sh":             func(t *testing.T) (map[string]string, error) { return sourceWith(t, path, "sh") },
		"dash":           func(t *testing.T) (map[string]string, error) { return sourceWith(t, path, "dash") },
		"bash":           func(t *testing.T) (map[string]string, error) { return sourceWith(t, path, "bash", "--norc") },
		"bash as sh":     func(t *testing.T) (map[string]string, error) { return sourceWith(t, path, "bash", "--posix") },
		"zsh":            func(t *testing.T) (map[string]string, error) { return sourceWith(t, path, "zsh") },
		"ksh":            func(t *testing.T) (map[string]string, error) { return sourceWith(t, path, "ksh") },
		"mksh":           func(t *testing.T) (map[string]string, error) { return sourceWith(t, path, "mksh") },
		"busybox":        func(t *testing.T) (map[string]string, error) { return sourceWith(t, path, "busybox", "sh") },
		"systemd":        func(t *testing.T) (map[string]string, error) { return generate(t, file) },
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(t)
			must(t, err)
			for name, value := range want {
				if got[name] != value {
					t.Errorf("value %q was read as %q", value, got[name])
				}
			}
		})
	}
}

// sourceWith has a shell read the file where a stray expansion would show: with files to match
// and a home directory.
func sourceWith(t *testing.T, path string, shell ...string) (map[string]string, error) {
	t.Helper()
	program, err := exec.LookPath(shell[0])
	if err != nil {
		t.Skipf("%s is not installed", shell[0])
	}
	script := `set -eu; set -a; . "$0"; set +a; set`
	cmd := exec.Command(program, append(shell[1:], "-c", script, path)...)
	cmd.Env = []string{"HOME=/expanded", "PATH=" + os.Getenv("PATH")}
	cmd.Dir = filepath.Dir(path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	// The environment of a process is limited; set prints the same, quoted where it likes.
	read := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			read[name] = strings.ReplaceAll(value, "'", "") // no value has one
		}
	}
	return read, nil
}

// TestEnvInTheEnvironment looks at what a process really gets.
func TestEnvInTheEnvironment(t *testing.T) {
	content := "eyJ0.eyJh~b+c/d-e_f.c2ln=="
	r, err := sink.Env([]sink.Variable{{Name: "GRAPH_TOKEN", Token: "graph"}, {Name: "GRAPH_EXPIRY", Token: "graph", Field: "expiry"}})
	must(t, err)
	file, err := r.Render(having(graph(content)))
	must(t, err)
	path := filepath.Join(t.TempDir(), "app.env")
	must(t, os.WriteFile(path, file, 0o600))
	for _, shell := range []string{"sh", "dash", "bash"} {
		t.Run(shell, func(t *testing.T) {
			program, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not installed", shell)
			}
			out, err := exec.Command(program, "-c", "set -a; . "+path+"; env").Output()
			must(t, err)
			lines := strings.Split(string(out), "\n")
			for _, want := range []string{"GRAPH_TOKEN=" + content, "GRAPH_EXPIRY=2031-05-06T05:08:09Z"} {
				if !slices.Contains(lines, want) {
					t.Errorf("the environment lacks %q", want)
				}
			}
		})
	}
}

func generate(t *testing.T, file []byte) (map[string]string, error) {
	t.Helper()
	if _, err := os.Stat(systemdGenerator); err != nil {
		t.Skip("systemd is not installed")
	}
	home := t.TempDir()
	must(t, os.Mkdir(filepath.Join(home, "environment.d"), 0o700))
	must(t, os.WriteFile(filepath.Join(home, "environment.d", "app.conf"), file, 0o600))
	cmd := exec.Command(systemdGenerator)
	cmd.Env = []string{"HOME=" + home, "XDG_CONFIG_HOME=" + home}
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	read, err := readAsDocker(out)
	quotes := regexp.MustCompile(`^"(.*)"$`) // it prints what it read, quoted where it likes
	for name, value := range read {
		read[name] = quotes.ReplaceAllString(value, "$1")
	}
	return read, err
}

// readAsDocker follows docker's documented rule: a line is a comment or is split at its first =.
func readAsDocker(file []byte) (map[string]string, error) {
	read := make(map[string]string)
	scanner := bufio.NewScanner(bytes.NewReader(file))
	for scanner.Scan() {
		line := strings.TrimLeft(scanner.Text(), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("line %q is no assignment", line)
		}
		read[name] = value
	}
	return read, scanner.Err()
}

// readAsSystemd follows systemd.exec(5) and refuses what it would unquote, join or convert.
func readAsSystemd(file []byte) (map[string]string, error) {
	read := make(map[string]string)
	for line := range strings.Lines(string(file)) {
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.ContainsAny(line, "\\'\"\r") {
			return nil, fmt.Errorf("line %q is not taken literally", line)
		}
		read[strings.TrimRight(name, " \t")] = strings.Trim(value, " \t")
	}
	return read, nil
}

// readAsShell follows POSIX (XCU 2.2, 2.6.1, 2.9.1 and 2.10) and refuses what it would expand or quote.
// In an assignment that is not the names of files, and a # or ! inside a word is a character.
func readAsShell(file []byte) (map[string]string, error) {
	special := regexp.MustCompile("[^\\x21-\\x7e]|[|&;<>()$`\\\\\"']|^~|:~")
	assignment := regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)=(.*)\n$`)
	read := make(map[string]string)
	for line := range strings.Lines(string(file)) {
		parts := assignment.FindStringSubmatch(line)
		if parts == nil || special.MatchString(parts[2]) {
			return nil, fmt.Errorf("line %q is not taken literally", line)
		}
		read[parts[1]] = parts[2]
	}
	return read, nil
}

func FuzzEnv(f *testing.F) {
	for _, seed := range [][2]string{
		{"GRAPH_TOKEN", "eyJ0.eyJh~b+c/d-e_f.c2ln=="}, {"A", "~root"}, {"A", "a:~b"}, {"_", ""}, {"A", "x y"},
		{"A", "$HOME"}, {"A", "`id`"}, {"A", "a#b"}, {"1A", "x"}, {"A", "x\\"}, {"A", "\"x\""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		r, err := sink.Env([]sink.Variable{{Name: name, Token: "graph"}, {Name: "AFTER", Token: "graph", Field: "expires_on"}})
		if err != nil {
			return
		}
		file, err := r.Render(having(graph(value)))
		if err != nil {
			return
		}
		want := map[string]string{name: value, "AFTER": "1935810489"}
		for reader, read := range map[string]func([]byte) (map[string]string, error){
			"docker": readAsDocker, "systemd": readAsSystemd, "sh": readAsShell,
		} {
			got, err := read(file)
			if err != nil || !maps.Equal(got, want) {
				t.Errorf("%s read %q as %q, error %v", reader, file, got, err)
			}
		}
	})
}
