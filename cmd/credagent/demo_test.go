package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credagent/credagent/internal/devserver"
)

// start runs a command line in this process.
func start(ctx context.Context, stdout, stderr io.Writer, args ...string) error {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

func TestDemoAndDevserverRefuseWhatCannotWork(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"demo too short":            {[]string{"demo", "--for", "14s"}, `"14s" for --for: 15s is the least`},
		"demo with an argument":     {[]string{"demo", "30s"}, `unexpected argument "30s"`},
		"devserver too short":       {[]string{"devserver", "--ttl", "10ms"}, `"10ms" for --ttl: a token lives for a second at least`},
		"devserver, no such fault":  {[]string{"devserver", "--fault", "sulk"}, `there is no fault "sulk", only ok, throttle`},
		"devserver, fault mistaken": {[]string{"devserver", "--fault", "ok", "--fault", "slow=soon"}, `"soon" is not a duration`},
		"devserver with an arg":     {[]string{"devserver", "8080"}, `unexpected argument "8080"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := start(t.Context(), io.Discard, io.Discard, test.args...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want %q in it", err, test.want)
			}
			if got := exitCode(err); got != exitUsage {
				t.Errorf("exit status %d, want %d", got, exitUsage)
			}
		})
	}
}

func TestDevserverHelpListsEveryFault(t *testing.T) {
	var help bytes.Buffer
	if err := start(t.Context(), &help, io.Discard, "devserver", "--help"); err != nil {
		t.Fatal(err)
	}
	for _, fault := range devserver.Faults() {
		if !strings.Contains(help.String(), "\n  "+fault.Name) || !strings.Contains(help.String(), fault.Help) {
			t.Errorf("%s is not explained", fault.Name)
		}
	}
	for _, want := range []string{"curl ", "credagent once -c"} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("no example with %q", want)
		}
	}
}

func TestDevserverClientWorksAsItIs(t *testing.T) {
	for name, flags := range map[string][]string{"plain": nil, "tls": {"--tls"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			out, stdout := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := start(ctx, stdout, io.Discard, append([]string{"devserver"}, flags...)...)
				_ = stdout.CloseWithError(err)
				done <- err
			}()
			var printed struct{ Config string }
			if err := json.NewDecoder(out).Decode(&printed); err != nil {
				t.Fatal(err)
			}
			if err := start(t.Context(), io.Discard, io.Discard, "once", "-c", printed.Config); err != nil {
				t.Errorf("once: %v", err)
			}
			if token, err := os.ReadFile(filepath.Join(filepath.Dir(printed.Config), "demo.token")); err != nil || len(token) == 0 {
				t.Errorf("the token is %d bytes long: %v", len(token), err)
			}
			stop()
			if err := <-done; err != nil {
				t.Errorf("devserver: %v", err)
			}
			if _, err := os.Stat(printed.Config); !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", printed.Config, err)
			}
		})
	}
}

func TestScreenIsATerminalOrNothing(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	defer terminal.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tests := map[string]struct {
		out   io.Writer
		env   map[string]string
		drawn bool
		color bool
	}{
		"terminal":         {terminal, map[string]string{"TERM": "xterm"}, true, true},
		"NO_COLOR":         {terminal, map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, true, false},
		"NO_COLOR, empty":  {terminal, map[string]string{"TERM": "xterm", "NO_COLOR": ""}, true, true},
		"dumb terminal":    {terminal, map[string]string{"TERM": "dumb"}, false, false},
		"unknown terminal": {terminal, nil, false, false},
		"file":             {file, map[string]string{"TERM": "xterm"}, false, false},
		"no file at all":   {&bytes.Buffer{}, map[string]string{"TERM": "xterm"}, false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			screen := screenOf(test.out, func(key string) (string, bool) {
				value, ok := test.env[key]
				return value, ok
			})
			if (screen != nil) != test.drawn {
				t.Fatalf("screen %v, want one: %v", screen, test.drawn)
			}
			if screen == nil {
				return
			}
			if screen.Color != test.color {
				t.Errorf("color %v, want %v", screen.Color, test.color)
			}
			if width, height := screen.Size(); width != 80 || height != 24 {
				t.Errorf("a terminal that knows no size is %d by %d, want 80 by 24", width, height)
			}
		})
	}
}
