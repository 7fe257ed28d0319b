package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

// program builds credagent.
func program(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "credagent")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/credagent").CombinedOutput(); err != nil {
		t.Fatalf("building credagent: %v\n%s", err, out)
	}
	return binary
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"man"}, {"man", "binary"}, {"sbom", "1.2.3"}, {"version", "1"}, {"zip", "dir"}, {"notices", "a", "b"}, {"bogus", "binary"}} {
		if err := run(args, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("release %q: %v", args, err)
		}
	}
}

func TestHelpIsRead(t *testing.T) {
	c, err := parseHelp("credagent once", "Does it.\n\n  indented\n\nUsage:\n  credagent once [flags]\n\nExamples:\n  credagent once\n\nFlags:\n"+
		"  -c, --config file   the file\n  -h, --help          help for once\n")
	if err != nil {
		t.Fatal(err)
	}
	title := ".TH CREDAGENT\\-ONCE 1 \"\" \"credagent 1\" \"credagent\"\n"
	if page := c.page("credagent 1"); !strings.Contains(page, title) {
		t.Errorf("the page has no title:\n%s", page)
	}
	if c.long != "Does it.\n\n  indented" || c.examples != "  credagent once" || len(c.flags) != 2 {
		t.Errorf("read %+v", c)
	}
	if want := [2]string{"-c, --config file", "the file"}; c.flags[0] != want {
		t.Errorf("the first flag is %q, want %q", c.flags[0], want)
	}
}

func TestUnreadableHelp(t *testing.T) {
	for name, text := range map[string]string{
		"no usage":        "Does it.\n",
		"unknown section": "Does it.\n\nUsage:\n  credagent once\n\nAliases:\n  twice\n",
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := parseHelp("credagent once", text); err == nil {
				t.Errorf("it was read as %+v", c)
			}
		})
	}
}

func TestEscaped(t *testing.T) {
	for text, want := range map[string]string{
		".SH": `\&.SH`, "'a": `\&'a`, "--long": `\-\-long`, `a\n`: `a\en`, "  .a": "  .a", "": "",
	} {
		if got := escaped(text); got != want {
			t.Errorf("escaped(%q) = %q, want %q", text, got, want)
		}
	}
}

// TestManual has every page shown, where man is installed, and looks for what it must tell.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	if err := run([]string{"man", program(t), dir}, io.Discard); err != nil {
		t.Fatal(err)
	}
	for page, want := range map[string][]string{
		"man1/credagent.1":          {`credagent\-run(1)`, `\-h, \-\-help`},
		"man1/credagent-run.1":      {`\-c, \-\-config file`, "SIGHUP", "credagent run \\-c /etc"},
		"man1/credagent-validate.1": {`\-\-probe`},
		"man5/credagent.yaml.5":     {"clients.NAME.entra.tenant", "sinks[].readers[].group", "Directory of the encrypted token cache."},
	} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range want {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s does not tell about %q", page, part)
			}
		}
	}
	pages, err := filepath.Glob(filepath.Join(dir, "man?", "*"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	if _, err := exec.LookPath("man"); err != nil {
		t.Skip("man is missing: the pages are not looked at (apt-get install man-db)")
	}
	for _, page := range pages {
		var complaints bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "man", "--warnings=w", "--local-file", page)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=100")
		cmd.Stderr = &complaints
		if err := cmd.Run(); err != nil || complaints.Len() > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(page), err, &complaints)
		}
	}
}

func TestConfigurationPageKeepsTheOrder(t *testing.T) {
	page, err := configurationPage("credagent 1", `{"properties": {"b": {"description": "B."}, "a": {"items": {"properties": {"c": {"description": "C."}}}},
		"d": {"additionalProperties": {"properties": {"e": {"description": "E."}}}, "properties": {}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, part := range []string{`\fBb\fR` + "\nB.", `\fBa\fR`, `\fBa[].c\fR` + "\nC.", `\fBd\fR`, `\fBd.NAME.e\fR` + "\nE."} {
		at := strings.Index(page, part)
		if at < last {
			t.Errorf("%q is not there, or not in its place:\n%s", part, page)
		}
		last = at
	}
	if _, err := configurationPage("credagent 1", "{"); err == nil {
		t.Error("half a schema was read")
	}
}

func TestBill(t *testing.T) {
	info := &debug.BuildInfo{
		GoVersion: "go1.26.8",
		Main:      debug.Module{Path: "github.com/credagent/credagent", Version: "v1.2.3+dirty"},
		Deps: []*debug.Module{
			{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
			{Path: "example.com/b", Replace: &debug.Module{Path: "example.com/c", Version: "v2.0.0", Sum: "h1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}},
		},
	}
	bom, err := newBill(info, sha256.Sum256([]byte("binary")))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := bom.Metadata.Component.PURL, "pkg:golang/github.com/credagent/credagent@v1.2.3%2Bdirty"; got != want {
		t.Errorf("the program is %q, want %q", got, want)
	}
	var urls []string
	for _, c := range bom.Components {
		urls = append(urls, c.PURL)
	}
	if got, want := strings.Join(urls, " "), "pkg:golang/std@1.26.8 pkg:golang/example.com/a@v1.0.0 pkg:golang/example.com/c@v2.0.0"; got != want {
		t.Errorf("the components are %q, want %q", got, want)
	}
	if got, want := bom.Components[1].Hashes[0].Content, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"; got != want {
		t.Errorf("the checksum is %s, want %s", got, want)
	}
	if version8 := regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`); !version8.MatchString(bom.Serial) {
		t.Errorf("the serial number is %s", bom.Serial)
	}
	info.Deps[0].Sum = "h1:AAEC"
	if _, err := newBill(info, sha256.Sum256(nil)); err == nil {
		t.Error("half a checksum was taken for one")
	}
}

// TestBillAndNoticesNameEveryModule reads both out of the real program.
func TestBillAndNoticesNameEveryModule(t *testing.T) {
	binary := program(t)
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var sbom, again, notices bytes.Buffer
	for _, err := range []error{run([]string{"sbom", "1.2.3", binary}, &sbom), run([]string{"sbom", "1.2.3", binary}, &again), run([]string{"notices", binary}, &notices)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if sbom.String() != again.String() {
		t.Error("two bills of one binary differ")
	}
	var read bill
	if err := json.Unmarshal(sbom.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	if len(read.Components) != len(info.Deps)+1 || len(read.Dependencies[0].DependsOn) != len(info.Deps)+1 {
		t.Errorf("the bill has %d components, the binary %d modules and the standard library", len(read.Components), len(info.Deps))
	}
	for _, module := range info.Deps {
		if !strings.Contains(notices.String(), "\n"+module.Path+" "+module.Version+": ") {
			t.Errorf("no licence of %s", module.Path)
		}
	}
	if !strings.Contains(notices.String(), "The Go standard library, go") {
		t.Error("no licence of Go")
	}
}

func TestBinariesThatTellNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credagent")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"sbom", "1.2.3", file}, {"notices", file}, {"sbom", "1.2.3", file + ".missing"}, {"man", file, t.TempDir()}} {
		if err := run(args, io.Discard); err == nil {
			t.Errorf("release %q has no error", args)
		}
	}
}
