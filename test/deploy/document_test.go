//go:build linux

package deploy_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const document = root + "/docs/systemd.md"

// block is a fenced block of a document: a script, or a file that the paragraph above it names last.
var block = regexp.MustCompile("(?ms)(?:`(/[^`\n]+)`:\n\n)?^```(\\w+)\n(.*?)^```$")

// follow follows a text: it writes its files and runs its scripts, in order.
func (h *host) follow(text string) {
	h.t.Helper()
	for _, match := range block.FindAllStringSubmatch(text, -1) {
		path, language, content := match[1], match[2], match[3]
		switch {
		case language == "sh":
			h.Shell("cd /root/credagent\n" + content)
		case path != "":
			h.Write(path, strings.ReplaceAll(content, "https://login.example.com", serverURL), 0o644)
		default:
			h.t.Fatalf("nothing says where this belongs:\n%s", content)
		}
	}
}

// TestSystemdDocument follows docs/systemd.md from its first line to its last.
func TestSystemdDocument(t *testing.T) {
	h := fromCheckout(t, calm)
	h.Write("/etc/systemd/system/app.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nUser=app\nExecStart=/bin/cat "+appToken+"\n", 0o644)
	h.Write("/etc/systemd/system/worker.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nUser=worker\nExecStart=/bin/sh -c 'test -n \"$$ORDERS_TOKEN\"'\n", 0o644)
	h.follow(read(t, document))
	for _, unit := range []string{"credagent", "credagent@web", "app", "worker", "credagent-reload@app.path", "credagent-reload@worker.path"} {
		if state := h.property(unit, "ActiveState"); state != "active" {
			t.Errorf("%s is %s", unit, state)
		}
	}
	h.wantToken(appToken)
	h.wantToken("/run/credagent-web/orders.token")
	h.wantRequests(2) // one for each of the two clients, whatever was reloaded and restarted
	if strings.Contains(h.Run("journalctl", "--no-pager", "--output=cat"), canary) {
		t.Error("the journal shows the secret")
	}
}

// TestDocumentNamesEveryUnit keeps the document in step with what is shipped.
func TestDocumentNamesEveryUnit(t *testing.T) {
	text := read(t, document)
	for _, name := range []string{"credagent.service", "credagent@web.service", "credagent-reload@app.path", "credagent-state-key.service", "wait-for-token.conf"} {
		if !strings.Contains(text, name) {
			t.Errorf("%s does not tell about %s", document, name)
		}
	}
}

// wishes are the drop-ins that the document's table has for what people want.
func wishes(t *testing.T) map[string]string {
	t.Helper()
	_, table, _ := strings.Cut(read(t, document), "| to | lines |\n| --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	setting := regexp.MustCompile("`([A-Za-z]+=[^`]*)`")
	all := map[string]string{}
	for row := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(row), "| "), " | ")
		var lines []string
		for _, match := range setting.FindAllStringSubmatch(cells[1], -1) {
			lines = append(lines, match[1])
		}
		all[cells[0]] = strings.Join(lines, "\n")
	}
	return all
}

func wish(t *testing.T, name string) string {
	t.Helper()
	lines := wishes(t)[name]
	if lines == "" {
		t.Fatalf("%s does not tell how to have %s", document, name)
	}
	return lines
}

// TestWishesAreValid verifies the service with each of the drop-ins.
func TestWishesAreValid(t *testing.T) {
	for name, lines := range wishes(t) {
		root := unitRoot(t)
		write(t, filepath.Join(root, "etc/systemd/system/credagent.service.d/wish.conf"), "[Service]\n"+lines+"\n", 0o644)
		if complaints, err := analyze(t, root, "verify", "credagent.service"); lines == "" || err != nil || complaints != "" {
			t.Errorf("%s: %v\n%s\n%s", name, err, lines, complaints)
		}
	}
	if n := len(wishes(t)); n < 5 {
		t.Errorf("the table has %d wishes", n)
	}
}
