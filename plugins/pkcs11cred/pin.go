package pkcs11cred

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/miekg/pkcs11"

	"github.com/credagent/credagent/plugins/internal/credfile"
)

// A token locks itself after a few wrong PINs, and only its security officer, or nobody, can unlock it. So a refused
// PIN is not tried again until its file changes: not by the next request, and not by the next process, since a
// provider's process ends when it is idle. The file's state is kept in a mark, which reveals nothing about the PIN.

// refusedCodes are the return values that mean that a PIN was refused.
var refusedCodes = map[pkcs11.Error]string{
	pkcs11.CKR_PIN_INCORRECT: "the token refused the PIN",
	pkcs11.CKR_PIN_INVALID:   "the PIN holds characters that the token does not know",
	pkcs11.CKR_PIN_LEN_RANGE: "the PIN is too short or too long for the token",
	pkcs11.CKR_PIN_EXPIRED:   "the PIN has expired",
	pkcs11.CKR_PIN_LOCKED:    "the token has locked its PIN after wrong ones; its security officer can set a new one",
}

// login logs in with the PIN, if the token needs one.
func (p *Provider) login(d *device, s source) error {
	info, err := d.library.GetTokenInfo(d.slot)
	switch {
	case err != nil:
		return fmt.Errorf("looking at the token: %w", err)
	case info.Flags&pkcs11.CKF_LOGIN_REQUIRED == 0:
		return nil
	case s.PINFile == "":
		return errors.New("the token wants a PIN; name the file with it in pin_file")
	case info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return errors.New(refusedCodes[pkcs11.CKR_PIN_LOCKED])
	case info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return fmt.Errorf("one more wrong PIN would lock the token, so the last try is left to you: log in once with: pkcs11-tool --module %s --login --list-objects", s.Module)
	}
	state, err := stateOf(s.PINFile) // before it is read: a PIN written in between must not count as tried
	if err != nil {
		return fmt.Errorf("looking at pin_file: %w", err)
	}
	if p.refused[s.mark()] == state || readMark(s.mark()) == state {
		return s.refusal("the token has refused the PIN before")
	}
	pin, err := credfile.ReadLine("pin_file", s.PINFile)
	if err != nil {
		return err
	}
	err = d.library.Login(d.session, pkcs11.CKU_USER, pin.Reveal())
	return p.loggedIn(err, s, state)
}

// loggedIn remembers the result of a login.
func (p *Provider) loggedIn(err error, s source, state string) error {
	words, refused := refusedCodes[code(err)]
	switch {
	case refused:
		p.refused[s.mark()] = state
		if err := writeMark(s.mark(), state); err != nil {
			words += fmt.Sprintf(", which cannot be remembered beyond this process: %v; name a directory that the agent's user may write to in pin_guard_dir", err)
		}
		return s.refusal(words)
	case err != nil && code(err) != pkcs11.CKR_USER_ALREADY_LOGGED_IN:
		return fmt.Errorf("logging in: %w", err)
	}
	delete(p.refused, s.mark())
	_ = os.Remove(s.mark())
	return nil
}

func (s source) refusal(why string) error {
	return fmt.Errorf("%s; it is not tried again, as wrong ones lock a token, until pin_file %q changes (after a change on the token's side, touch it)", why, s.PINFile)
}

// mark returns the file that remembers the state of a pin_file whose PIN was refused. Its name is not that of a
// temporary file, because the agent removes leftover temporary files from the directories of its sinks.
func (s source) mark() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\x00%v\x00%s", os.Geteuid(), s.selection(), s.PINFile))
	return filepath.Join(s.PINGuardDir, fmt.Sprintf(".credagent-refused-pin-%x.mark", sum[:8]))
}

// stateOf returns what stat reports about a file.
func stateOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	inode := uint64(0)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = stat.Ino
	}
	return fmt.Sprintf("%d,%d,%d", inode, info.Size(), info.ModTime().UnixNano()), nil
}

// readMark reads a mark; "" if there is none. The directory may be public, so a mark that belongs to another user, or
// is not a regular file, is ignored.
func readMark(path string) string {
	const most = 256
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
		return ""
	}
	state, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return ""
	}
	return string(state)
}

// writeMark writes a mark.
func writeMark(path, state string) error {
	_ = os.Remove(path)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(state)
	return errors.Join(err, file.Close())
}
