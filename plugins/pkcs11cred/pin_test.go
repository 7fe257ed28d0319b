package pkcs11cred

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/credagent/credagent/plugins/internal/credtest"
)

const wrongPIN = "canary-not-the-pin"

// A wrong PIN is tried once: not again by the same process, nor by the next, until its file changes.
func TestWrongPINIsTriedOnce(t *testing.T) {
	h := newHSM(t, "ec")
	first, spy := h.provider(t)
	config := h.config("ec", map[string]any{"certificate_file": h.file(t, h.certify(t, first, "ec", time.Hour)), "pin_file": h.path("other-pin")})
	spy.logins = 0

	write(t, h.path("other-pin"), wrongPIN)
	const again = "it is not tried again, as wrong ones lock a token, until pin_file "
	fails(t, first, config, "the token refused the PIN; "+again)
	for range 3 {
		fails(t, first, config, "the token has refused the PIN before; "+again)
	}
	if spy.logins != 1 {
		t.Fatalf("the wrong PIN was tried %d times", spy.logins)
	}
	first.close()

	next, nextSpy := h.provider(t)
	fails(t, next, config, "the token has refused the PIN before; "+again)
	write(t, h.path("other-pin"), wrongPIN+"-either")
	fails(t, next, config, "the token refused the PIN; "+again)
	fails(t, next, config, "the token has refused the PIN before; "+again)
	if nextSpy.logins != 1 {
		t.Fatalf("another wrong PIN was tried %d times", nextSpy.logins)
	}

	write(t, h.path("other-pin"), pin)
	credtest.Load(t, next, config)
	if nextSpy.logins != 2 {
		t.Errorf("%d logins, want one more with the right PIN", nextSpy.logins)
	}
	if left := h.marks(t); len(left) > 0 {
		t.Errorf("after the right PIN there is still %v", left)
	}
}

// A touched file is a changed one: the mistake may have been on the token.
func TestTouchedPINIsTriedAgain(t *testing.T) {
	h := newHSM(t, "ec")
	p, spy := h.provider(t)
	config := h.config("ec", nil)
	write(t, h.path("pin"), wrongPIN)
	fails(t, p, config, "the token refused the PIN")
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(h.path("pin"), later, later); err != nil {
		t.Fatal(err)
	}
	fails(t, p, config, "the token refused the PIN")
	if spy.logins != 2 {
		t.Errorf("%d logins, want 2", spy.logins)
	}
}

func (h *hsm) marks(t *testing.T) []string {
	t.Helper()
	marks, err := filepath.Glob(h.path(".credagent-refused-pin-*"))
	if err != nil {
		t.Fatal(err)
	}
	return marks
}

// The mark holds nothing of the PIN, and is nobody else's business.
func TestMark(t *testing.T) {
	h := newHSM(t)
	p, _ := h.provider(t)
	write(t, h.path("pin"), wrongPIN)
	fails(t, p, h.config("ec", nil), "the token refused the PIN")
	marks := h.marks(t)
	if len(marks) != 1 {
		t.Fatalf("marks %v, want one", marks)
	}
	info, err := os.Stat(marks[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	content, err := os.ReadFile(marks[0])
	if err != nil {
		t.Fatal(err)
	}
	credtest.CheckHidden(t, string(content)+marks[0], []byte(wrongPIN))

	// A link in its place, as somebody else could make one in /tmp, is not followed, but replaced.
	elsewhere := h.path("elsewhere")
	write(t, elsewhere, string(content))
	if err := os.Remove(marks[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, marks[0]); err != nil {
		t.Fatal(err)
	}
	if got := readMark(marks[0]); got != "" {
		t.Errorf("the link was followed to %q", got)
	}
	if err := writeMark(marks[0], "new"); err != nil || readMark(marks[0]) != "new" {
		t.Errorf("mark %q, %v", readMark(marks[0]), err)
	}
	if left, err := os.ReadFile(elsewhere); err != nil || string(left) != string(content) {
		t.Errorf("the link's target became %q, %v", left, err)
	}
}

func TestMarkThatCannotBeWritten(t *testing.T) {
	h := newHSM(t)
	p, spy := h.provider(t)
	config := h.config("ec", map[string]any{"pin_guard_dir": h.path("not-there")})
	write(t, h.path("pin"), wrongPIN)
	fails(t, p, config, "the token refused the PIN, which cannot be remembered beyond this process: open "+h.path("not-there"))
	fails(t, p, config, "the token has refused the PIN before")
	if spy.logins != 1 {
		t.Errorf("the wrong PIN was tried %d times", spy.logins)
	}
}

// What the token says of its PIN keeps credagent from making it worse.
func TestPINInDanger(t *testing.T) {
	h := newHSM(t)
	for want, flags := range map[string]uint{
		"one more wrong PIN would lock the token, so the last try is left to you: log in once with: pkcs11-tool": pkcs11.CKF_USER_PIN_FINAL_TRY,
		"the token has locked its PIN after wrong ones":                                                          pkcs11.CKF_USER_PIN_LOCKED,
	} {
		p, spy := h.provider(t)
		spy.flags = flags
		fails(t, p, h.config("ec", nil), want)
		if spy.logins != 0 {
			t.Errorf("%d logins", spy.logins)
		}
	}
}

func TestPINFileIsMissing(t *testing.T) {
	h := newHSM(t)
	p, spy := h.provider(t)
	fails(t, p, h.config("ec", map[string]any{"pin_file": nil}), "the token wants a PIN; name the file with it in pin_file")
	fails(t, p, h.config("ec", map[string]any{"pin_file": h.path("none")}), "no such file or directory")
	write(t, h.path("empty"), "\n")
	fails(t, p, h.config("ec", map[string]any{"pin_file": h.path("empty")}), "it is empty")
	write(t, h.path("long"), strings.Repeat(wrongPIN, 20))
	fails(t, p, h.config("ec", map[string]any{"pin_file": h.path("long")}), "it is not tried again")
	if spy.logins != 1 {
		t.Errorf("%d logins, want that of the PIN that is too long", spy.logins)
	}
}
