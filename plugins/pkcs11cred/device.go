package pkcs11cred

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/pkcs11"
)

const (
	// maxCertificates limits how many certificates of a token are checked.
	maxCertificates = 64
	// attempts is how often a missing token is searched for, with pauses between.
	attempts = 4
	pause    = 250 * time.Millisecond
)

// device is a token with an open session.
type device struct {
	library library
	meant   selection
	slot    uint
	session pkcs11.SessionHandle
	state   uint // of the session, when it was ready for use

	wanted string // the search that found key; "" before one is found
	key    pkcs11.ObjectHandle
	kind   uint // CKA_KEY_TYPE of the key
	proof  proof
}

// selection is the part of a configuration that a session depends on.
type selection struct {
	module, label, serial, pinFile string
	slot                           uint
	bySlot                         bool
}

func (s source) selection() selection {
	selected := selection{module: s.Module, label: s.TokenLabel, serial: s.Serial, pinFile: s.PINFile}
	if s.Slot != nil {
		selected.slot, selected.bySlot = *s.Slot, true
	}
	return selected
}

// use calls do with the token. If the token was removed, everything is opened again and do is called again: many
// libraries notice a reinserted token only after a new initialization, and some only a moment later.
func (p *Provider) use(ctx context.Context, s source, do func(*device) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.once(s, do)
	for attempt := 1; missing(err) && attempt < attempts || gone(err) && attempt == 1; attempt++ {
		if attempt > 1 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(pause):
			}
		}
		if failed := p.restart(s); failed != nil {
			return failed
		}
		err = p.once(s, do)
	}
	return err
}

// restart initializes the library again.
func (p *Provider) restart(s source) error {
	p.close()
	known := p.libraries[s.Module]
	if known == nil {
		return nil
	}
	_ = known.Finalize() // it may not be initialized
	return initialize(known)
}

func (p *Provider) once(s source, do func(*device) error) error {
	if p.device == nil || p.device.meant != s.selection() || !p.device.alive() {
		p.close()
		opened, err := p.open(s)
		if err != nil {
			return err
		}
		p.device = opened
	}
	return do(p.device)
}

func (p *Provider) close() {
	if p.device != nil {
		_ = p.device.library.CloseSession(p.device.session)
		p.device = nil
	}
}

// open opens a session and logs in.
func (p *Provider) open(s source) (*device, error) {
	l, err := p.library(s)
	if err != nil {
		return nil, err
	}
	slot, err := s.slot(l)
	if err != nil {
		return nil, err
	}
	session, err := l.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	d := &device{library: l, meant: s.selection(), slot: slot, session: session}
	err = p.login(d, s)
	if err == nil {
		var info pkcs11.SessionInfo
		info, err = l.GetSessionInfo(session)
		d.state = info.State
	}
	if err != nil {
		_ = l.CloseSession(session)
		return nil, err
	}
	return d, nil
}

// alive reports whether the session is still open and logged in.
func (d *device) alive() bool {
	info, err := d.library.GetSessionInfo(d.session)
	return err == nil && info.State == d.state
}

// wanted returns the part of a configuration that selects the key.
func (s source) wanted() string { return "label " + s.KeyLabel + ", id " + s.objectID() }

// findKey finds the selected private key: a token's keys may be replaced at any time.
func (d *device) findKey(s source) error {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}
	if s.KeyLabel != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, s.KeyLabel))
	}
	if id, err := hex.DecodeString(s.objectID()); err == nil && len(id) > 0 {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	keys, err := d.find(template, 2)
	if err != nil {
		return fmt.Errorf("looking for the private key: %w", err)
	}
	if len(keys) != 1 {
		count := map[int]string{0: "no private key on the token is", 2: "more than one private key on the token is"}[len(keys)]
		return fmt.Errorf("%s what key_label and key_object_id mean; see what there is with: pkcs11-tool --module %s --login --list-objects", count, s.Module)
	}
	kind, err := d.attribute(keys[0], pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return fmt.Errorf("looking at the private key: %w", err)
	}
	if d.key != keys[0] {
		d.proof = proof{}
	}
	d.wanted, d.key, d.kind = s.wanted(), keys[0], number(kind)
	return nil
}

func (d *device) find(template []*pkcs11.Attribute, most int) ([]pkcs11.ObjectHandle, error) {
	if err := d.library.FindObjectsInit(d.session, template); err != nil {
		return nil, err
	}
	objects, _, err := d.library.FindObjects(d.session, most)
	return objects, errors.Join(err, d.library.FindObjectsFinal(d.session))
}

func (d *device) attribute(object pkcs11.ObjectHandle, name uint) ([]byte, error) {
	values, err := d.library.GetAttributeValue(d.session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(name, nil)})
	if err != nil || len(values) != 1 {
		return nil, err
	}
	return values[0].Value, nil
}

// number reads a CK_ULONG, which has the machine's word size and byte order.
func number(value []byte) uint {
	switch len(value) {
	case 4:
		return uint(binary.NativeEndian.Uint32(value))
	case 8:
		return uint(binary.NativeEndian.Uint64(value))
	}
	return unknownKind
}

// certificates reads the certificates on the token, the one that expires last first: a renewed certificate is stored
// next to the old one. More attributes narrow the search.
func (d *device) certificates(more ...*pkcs11.Attribute) ([]*x509.Certificate, error) {
	objects, err := d.find(append(more, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE)), maxCertificates)
	if err != nil {
		return nil, fmt.Errorf("looking for the certificate: %w", err)
	}
	var certificates []*x509.Certificate
	for _, object := range objects {
		der, err := d.attribute(object, pkcs11.CKA_VALUE)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate: %w", err)
		}
		if certificate, err := x509.ParseCertificate(der); err == nil { // there may be certificates of other types
			certificates = append(certificates, certificate)
		}
	}
	slices.SortStableFunc(certificates, func(a, b *x509.Certificate) int { return b.NotAfter.Compare(a.NotAfter) })
	return certificates, nil
}

// leafAmong finds the key's own certificate, with a signature as proof.
func (d *device) leafAmong(certificates []*x509.Certificate, s source) (*x509.Certificate, error) {
	if s.CertificateLabel != "" {
		var err error
		if certificates, err = d.certificates(pkcs11.NewAttribute(pkcs11.CKA_LABEL, s.CertificateLabel)); err != nil {
			return nil, err
		}
	}
	for range 2 {
		if i := slices.IndexFunc(certificates, d.proof.by); i >= 0 {
			return certificates[i], nil
		}
		// The key may have been replaced by one with the same handle.
		var err error
		if d.proof, err = d.prove(s); err != nil {
			return nil, err
		}
	}
	return nil, s.noCertificate(len(certificates))
}

func (s source) noCertificate(looked int) error {
	switch {
	case s.CertificateFile != "":
		return fmt.Errorf("no certificate in certificate_file %q is the key's; if it is being replaced, the rest is still to come", s.CertificateFile)
	case s.CertificateLabel != "":
		return fmt.Errorf("of %d certificates on the token with the label %q none is the key's", looked, s.CertificateLabel)
	}
	return fmt.Errorf("of %d certificates on the token none is the key's; write it there with pkcs11-tool --write-object, or name a file with it in certificate_file", looked)
}
