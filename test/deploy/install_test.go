//go:build linux

package deploy_test

import (
	"archive/zip"
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// released is a directory with all files of a release for this machine's architecture.
type released struct {
	t            *testing.T
	dir, version string
}

// TestReleaseInstalls makes a release and does with each of its files what those would who got it: checksums are
// verified, and what runs here is unpacked and run. Of the others, whose systems are not here, it
// looks at what they hold.
func TestReleaseInstalls(t *testing.T) {
	place := t.TempDir()
	clone(t, place) // so that the commit is stamped, from a work tree too
	dir := filepath.Join(place, "dist")
	if out, err := exec.CommandContext(t.Context(), filepath.Join(place, "deploy/release.sh"), "all", dir, runtime.GOARCH).CombinedOutput(); err != nil {
		t.Fatalf("making a release: %v\n%s", err, out)
	}
	r := released{t, dir, newestVersion(t)}
	if got := strings.TrimSpace(read(t, r.path("VERSION"))); got != r.version {
		t.Errorf("VERSION is %q, want %q", got, r.version)
	}
	t.Run("checksums", r.testChecksums)
	t.Run("notes", r.testNotes)
	t.Run("archive for linux", r.testLinuxArchive)
	t.Run("deb", r.testDeb)
	t.Run("rpm", r.testRPM)
	t.Run("archive for darwin", r.testDarwinArchive)
	t.Run("archive for windows", r.testWindowsArchive)
	t.Run("bills of materials", r.testBills)
	t.Run("image", r.testImage)
}

func (r released) path(name string) string { return filepath.Join(r.dir, name) }

// archive is the name of an archive without its ending, which is its top directory too.
func (r released) archive(system string) string {
	return "credagent_" + r.version + "_" + system + "_" + runtime.GOARCH
}

func newestVersion(t *testing.T) string {
	t.Helper()
	match := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\] - `).FindStringSubmatch(read(t, root+"/CHANGELOG.md"))
	if match == nil {
		t.Fatal("CHANGELOG.md has no dated release")
	}
	return match[1]
}

// output runs a program that must succeed.
func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("running %s %q: %v\n%s", name, args, err, &stderr)
	}
	return string(out)
}

// checkProgram runs a program that was installed into root.
func (r released) checkProgram(t *testing.T, root string) {
	t.Helper()
	program := filepath.Join(root, "usr/bin/credagent")
	if out := output(t, root, program, "version"); !strings.HasPrefix(out, "credagent "+r.version+" (commit ") {
		t.Errorf("version says %q, want %s", out, r.version)
	}
	if page := output(t, root, "gzip", "--decompress", "--stdout", "usr/share/man/man1/credagent-run.1.gz"); !strings.Contains(page, `"credagent `+r.version+`"`) {
		t.Errorf("the manual is not of %s:\n%.200s", r.version, page)
	}
	if out := output(t, root, program, "schema"); !json.Valid([]byte(out)) {
		t.Errorf("schema says %.200q", out)
	}
	for _, name := range []string{"docs/systemd.md", "docs/images/flow.svg", "LICENSE", "THIRD-PARTY"} {
		if info, err := os.Stat(filepath.Join(root, "usr/share/doc/credagent", name)); err != nil || info.Size() == 0 {
			t.Errorf("%s is missing: %v", name, err)
		}
	}
}

// testChecksums also expects that every file has one, and that a changed file is noticed.
func (r released) testChecksums(t *testing.T) {
	verified := output(t, r.dir, "sha256sum", "--check", "--strict", "SHA256SUMS")
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); entry.Type().IsRegular() && name != "SHA256SUMS" && !strings.Contains(verified, name+": OK") {
			t.Errorf("%s has no checksum", name)
		}
	}
	changed := t.TempDir()
	write(t, filepath.Join(changed, "VERSION"), "9.9.9\n", 0o644)
	cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--ignore-missing", r.path("SHA256SUMS"))
	cmd.Dir = changed
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("another VERSION has the same checksum:\n%s", out)
	}
}

func (r released) testNotes(t *testing.T) {
	notes := read(t, r.path("RELEASE-NOTES.md"))
	if !strings.HasPrefix(notes, "# credagent "+r.version+"\n") || strings.Contains(notes, "Unreleased") || len(strings.Fields(notes)) < 10 {
		t.Errorf("the notes are:\n%s", notes)
	}
	if _, body, _ := strings.Cut(notes, "\n\n"); !strings.Contains(read(t, root+"/CHANGELOG.md"), strings.TrimSpace(body)) {
		t.Error("the notes are not what CHANGELOG.md says")
	}
}

func (r released) testLinuxArchive(t *testing.T) {
	dir := t.TempDir()
	output(t, dir, "tar", "--extract", "--gzip", "--file", r.path(r.archive("linux")+".tar.gz"))
	r.checkProgram(t, filepath.Join(dir, r.archive("linux")))
}

// testDeb unpacks the package, without its scripts: these are run by TestPackage, in a machine of their own.
func (r released) testDeb(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is missing: apt-get install dpkg")
	}
	deb, dir := r.path("credagent_"+r.version+"_"+runtime.GOARCH+".deb"), t.TempDir()
	for field, want := range map[string]string{"Package": "credagent", "Version": r.version, "Architecture": runtime.GOARCH} {
		if got := strings.TrimSpace(output(t, dir, "dpkg-deb", "--field", deb, field)); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	output(t, dir, "dpkg-deb", "--extract", deb, dir)
	r.checkProgram(t, dir)
	for _, name := range []string{"etc/credagent/credagent.yaml", "usr/lib/systemd/system/credagent.service", "usr/share/zsh/vendor-completions/_credagent"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("the package has no %s", name)
		}
	}
}

// testRPM asks rpm where it is installed, and looks at the file's lead in any case.
func (r released) testRPM(t *testing.T) {
	names, err := filepath.Glob(r.path("credagent-" + r.version + "-1.*.rpm"))
	if err != nil || len(names) != 1 {
		t.Fatalf("the packages are %v: %v", names, err)
	}
	if content := read(t, names[0]); !strings.HasPrefix(content, "\xed\xab\xee\xdb\x03") || !strings.Contains(content[:96], "credagent-"+r.version) {
		t.Errorf("it does not begin as an rpm of %s: %q", r.version, content[:96])
	}
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("rpm is missing: the package is not read (apt-get install rpm)")
	}
	if got := output(t, r.dir, "rpm", "--query", "--package", "--queryformat=%{NAME} %{VERSION}", names[0]); got != "credagent "+r.version {
		t.Errorf("it is %q", got)
	}
}

// checkForeign checks a program that cannot run here.
func checkForeign(t *testing.T, program, system, magic string) {
	t.Helper()
	if content := read(t, program); !strings.HasPrefix(content, magic) {
		t.Errorf("it begins with %q, want %q", content[:4], magic)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	for key, want := range map[string]string{"GOOS": system, "GOARCH": runtime.GOARCH, "CGO_ENABLED": "0", "-trimpath": "true"} {
		if settings[key] != want {
			t.Errorf("it was built with %s=%s, want %s", key, settings[key], want)
		}
	}
}

func (r released) testDarwinArchive(t *testing.T) {
	dir := t.TempDir()
	output(t, dir, "tar", "--extract", "--gzip", "--file", r.path(r.archive("darwin")+".tar.gz"))
	top := filepath.Join(dir, r.archive("darwin"))
	checkForeign(t, filepath.Join(top, "credagent"), "darwin", "\xcf\xfa\xed\xfe") // Mach-O, 64 bits
	for _, name := range []string{"LICENSE", "THIRD-PARTY", "README.md", "docs/configuration.md", "man/man1/credagent.1.gz"} {
		if _, err := os.Stat(filepath.Join(top, name)); err != nil {
			t.Errorf("the archive has no %s", name)
		}
	}
}

func (r released) testWindowsArchive(t *testing.T) {
	archive, err := zip.OpenReader(r.path(r.archive("windows") + ".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	for _, name := range []string{"LICENSE", "THIRD-PARTY", "README.md", "docs/configuration.md", "credagent.exe"} {
		if _, err := archive.Open(r.archive("windows") + "/" + name); err != nil {
			t.Errorf("the archive has no %s: %v", name, err)
		}
	}
	file, err := archive.Open(r.archive("windows") + "/credagent.exe")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	content, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "credagent.exe")
	write(t, program, string(content), 0o644)
	checkForeign(t, program, "windows", "MZ")
}

func (r released) testBills(t *testing.T) {
	for _, system := range []string{"linux", "darwin", "windows"} {
		var bill struct {
			Format   string `json:"bomFormat"`
			Metadata struct {
				Component struct{ Version string }
			}
		}
		if err := json.Unmarshal([]byte(read(t, r.path(r.archive(system)+".cdx.json"))), &bill); err != nil {
			t.Fatalf("%s: %v", system, err)
		}
		if bill.Format != "CycloneDX" || bill.Metadata.Component.Version != "v"+r.version {
			t.Errorf("%s: it is %+v, want one of v%s", system, bill, r.version)
		}
	}
}
