package pkcs11cred

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"
)

// library has the functions of a PKCS#11 library that are used.
type library interface {
	Initialize(options ...pkcs11.InitializeOption) error
	Finalize() error
	GetSlotList(tokenPresent bool) ([]uint, error)
	GetTokenInfo(slot uint) (pkcs11.TokenInfo, error)
	OpenSession(slot, flags uint) (pkcs11.SessionHandle, error)
	CloseSession(pkcs11.SessionHandle) error
	GetSessionInfo(pkcs11.SessionHandle) (pkcs11.SessionInfo, error)
	Login(session pkcs11.SessionHandle, user uint, pin string) error
	FindObjectsInit(pkcs11.SessionHandle, []*pkcs11.Attribute) error
	FindObjects(session pkcs11.SessionHandle, most int) ([]pkcs11.ObjectHandle, bool, error)
	FindObjectsFinal(pkcs11.SessionHandle) error
	GetAttributeValue(pkcs11.SessionHandle, pkcs11.ObjectHandle, []*pkcs11.Attribute) ([]*pkcs11.Attribute, error)
	SignInit(pkcs11.SessionHandle, []*pkcs11.Mechanism, pkcs11.ObjectHandle) error
	Sign(pkcs11.SessionHandle, []byte) ([]byte, error)
}

func loadLibrary(path string) (library, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	loaded := pkcs11.New(path)
	if loaded == nil {
		return nil, errors.New("it cannot be loaded; check that it is a PKCS#11 library for this machine, and with ldd that all it needs is there")
	}
	return loaded, nil
}

// library returns the configured library, loaded and initialized.
func (p *Provider) library(s source) (library, error) {
	if known := p.libraries[s.Module]; known != nil {
		return known, nil
	}
	for name, value := range s.Environment {
		if err := os.Setenv(name, value); err != nil {
			return nil, fmt.Errorf("setting its environment: %w", err)
		}
	}
	loaded, err := p.load(s.Module)
	if err != nil {
		return nil, err
	}
	if err := initialize(loaded); err != nil {
		return nil, err
	}
	p.libraries[s.Module] = loaded
	return loaded, nil
}

func initialize(l library) error {
	if err := l.Initialize(); err != nil && code(err) != pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED {
		return fmt.Errorf("initializing it: %w", err)
	}
	return nil
}

// missingError means that a token is missing.
type missingError struct{ message string }

// Error implements error.
func (e *missingError) Error() string { return e.message }

// slot finds the selected token.
func (s source) slot(l library) (uint, error) {
	slots, err := l.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("listing its slots: %w", err)
	}
	var present []string
	var meant []uint
	for _, slot := range slots {
		info, err := l.GetTokenInfo(slot)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue // just removed, or blank
		}
		present = append(present, fmt.Sprintf("%q (serial %q, slot %d)", info.Label, info.SerialNumber, slot))
		if s.means(slot, info) {
			meant = append(meant, slot)
		}
	}
	if len(meant) == 1 {
		return meant[0], nil
	}
	return 0, &missingError{fmt.Sprintf("%d tokens are meant by token_label, serial and slot, want one; present are: %s", len(meant), list(present))}
}

func (s source) means(slot uint, info pkcs11.TokenInfo) bool {
	return (s.TokenLabel == "" || info.Label == s.TokenLabel) &&
		(s.Serial == "" || info.SerialNumber == s.Serial) &&
		(s.Slot == nil || slot == *s.Slot)
}

func list(items []string) string {
	const most = 8
	switch {
	case len(items) == 0:
		return "none"
	case len(items) > most:
		items = append(items[:most:most], "…")
	}
	return strings.Join(items, ", ")
}

// code returns the library's return value in an error; CKR_OK if the error is not the library's.
func code(err error) pkcs11.Error {
	var returned pkcs11.Error
	if errors.As(err, &returned) {
		return returned
	}
	return pkcs11.CKR_OK
}

// goneCodes are the return values after which everything has to be opened again. Some libraries return nothing more
// precise than the last two.
var goneCodes = [...]pkcs11.Error{
	pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED,
	pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED,
	pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_USER_NOT_LOGGED_IN,
	pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
	pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED,
}

// gone reports whether the token may have been removed, even if it is back.
func gone(err error) bool {
	return err != nil && (missing(err) || slices.Contains(goneCodes[:], code(err)))
}

// missing reports whether a token is missing or incomplete: SoftHSM shows one without its PIN while another process
// writes to it.
func missing(err error) bool {
	var notThere *missingError
	return errors.As(err, &notThere) || code(err) == pkcs11.CKR_USER_PIN_NOT_INITIALIZED
}

// describe returns an error as text, with advice for some of the library's return values.
func describe(err error) string {
	text := strings.ReplaceAll(err.Error(), "pkcs11: ", "")
	switch code(err) {
	case pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED:
		text += "; the token or the key cannot sign like this; with RSA, signing_alg RS256 asks for less than PS256"
	case pkcs11.CKR_USER_NOT_LOGGED_IN:
		text += "; a key that wants its PIN for every signature (CKA_ALWAYS_AUTHENTICATE) cannot be used"
	}
	return text
}
