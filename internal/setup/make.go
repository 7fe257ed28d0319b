package setup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/host"
	"github.com/credagent/credagent/internal/secret"
)

// Maker carries out a plan.
type Maker struct {
	Out    io.Writer
	UID    int                                         // the service's user; -1 is the current user
	GID    int                                         // its group
	Secret func(context.Context) (secret.Value, error) // called once, and only if there is no file
}

// item is a file that a plan needs.
type item struct {
	path    string
	content []byte
	mode    fs.FileMode
	mine    bool   // it belongs to the service
	what    string // for people
}

// making records what was created so far, so that it can be undone.
type making struct {
	Maker
	made []string
}

// Make creates what a plan needs and does not exist. If it fails or ctx ends, it removes what it created.
func (m Maker) Make(ctx context.Context, p Plan) (err error) {
	merged, err := p.merge()
	if err != nil {
		return err
	}
	files, err := m.files(ctx, p)
	if err != nil {
		return err
	}
	w := &making{Maker: m}
	defer func() {
		if err != nil {
			w.takeBack()
		}
	}()
	for _, d := range p.directories() {
		if err := w.directory(ctx, d); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := w.file(ctx, f); err != nil {
			return err
		}
	}
	return w.configuration(ctx, p, merged)
}

// files returns the credential's files that do not exist yet.
func (m Maker) files(ctx context.Context, p Plan) ([]item, error) {
	switch p.answers.Credential {
	case Certificate:
		return m.certificateFiles(p)
	case Secret:
		return m.secretFile(ctx, p)
	}
	return nil, nil
}

func (m Maker) certificateFiles(p Plan) ([]item, error) {
	cert, key := isThere(p.certificateFile()), isThere(p.keyFile())
	switch {
	case cert && key:
		m.keeps(p.certificateFile(), "the certificate")
		m.keeps(p.keyFile(), "its key")
		return nil, nil
	case cert:
		return nil, fmt.Errorf("%s is there without its key %s: put the key there, or move the certificate away", p.certificateFile(), p.keyFile())
	case key:
		return nil, fmt.Errorf("%s is there without its certificate %s: put the certificate there, or move the key away", p.keyFile(), p.certificateFile())
	}
	certificate, private, err := newCertificate(p.server.Name)
	if err != nil {
		return nil, err
	}
	return []item{
		{p.keyFile(), private, 0o600, true, "the key, which stays on this host"},
		{p.certificateFile(), certificate, 0o644, false, "the certificate, for a year"},
	}, nil
}

func (m Maker) secretFile(ctx context.Context, p Plan) ([]item, error) {
	if isThere(p.secretFile()) {
		m.keeps(p.secretFile(), "the secret")
		return nil, nil
	}
	value, err := m.Secret(ctx)
	if err != nil {
		return nil, err
	}
	if value.IsZero() {
		return nil, errors.New("the secret is empty: paste it when asked, or give it on standard input")
	}
	return []item{{p.secretFile(), []byte(value.Reveal()), 0o600, true, "the secret"}}, nil
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (m Maker) keeps(path, what string) {
	fmt.Fprintf(m.Out, "kept     %s, %s: it is there already\n", path, what)
}

func (w *making) directory(ctx context.Context, d directory) error {
	info, err := os.Stat(d.path)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is not a directory: move it away, or name another", d.path)
	case err == nil && d.mine:
		return errors.Join(w.suits(d.path, info), ctx.Err())
	case err == nil:
		return ctx.Err()
	case !errors.Is(err, fs.ErrNotExist):
		return explain("looking at", d.path, err)
	}
	if parent := filepath.Dir(d.path); parent != d.path {
		if err := w.directory(ctx, directory{parent, false, 0o755}); err != nil {
			return err
		}
	}
	if err := os.Mkdir(d.path, d.mode); err != nil {
		return explain("making", d.path, err)
	}
	w.made = append(w.made, d.path)
	if err := settle(d.path, w.owner(d.mine), d.mode); err != nil {
		return explain("making", d.path, err)
	}
	fmt.Fprintf(w.Out, "made     %s\n", d.path)
	return ctx.Err()
}

// suits explains why the service cannot keep a token in an existing directory.
func (w *making) suits(path string, info fs.FileInfo) error {
	uid, gid := w.UID, w.GID
	if uid < 0 {
		uid, gid = os.Geteuid(), os.Getegid()
	}
	if !writable(info, uid, gid) {
		return fmt.Errorf("%s is there already, and the agent's user cannot write to it: run chown %d %s, or give a --file in another directory", path, uid, path)
	}
	held, err := host.Directory{Path: path, Owner: uid}.Open()
	if err != nil {
		return fmt.Errorf("%w, or give a --file in another directory", err)
	}
	return held.Close()
}

// owner is the owner of something new. A uid below 0 keeps the current owner.
type owner struct{ uid, gid int }

// owner returns the service for what belongs to it, if this process may change owners.
func (w *making) owner(mine bool) owner {
	if !mine {
		return owner{-1, -1}
	}
	return owner{w.UID, w.GID}
}

// give changes a file's owner by its descriptor, because the name may refer to another file by now.
func (o owner) give(file *os.File) error {
	if o.uid < 0 {
		return nil
	}
	return file.Chown(o.uid, o.gid)
}

// file creates a file that is complete and has its owner and mode before it gets its name.
func (w *making) file(ctx context.Context, f item) error {
	temporary, err := prepare(f, w.owner(f.mine))
	if temporary != "" {
		defer os.Remove(temporary)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = os.Link(temporary, f.path) // fails if the name exists
	}
	if err != nil {
		return explain("writing", f.path, err)
	}
	w.made = append(w.made, f.path)
	fmt.Fprintf(w.Out, "made     %s, %s\n", f.path, f.what)
	return nil
}

// prepare writes a temporary file in the same directory. It gets its owner before its mode admits anybody else.
func prepare(f item, to owner) (temporary string, err error) {
	temporary = filepath.Join(filepath.Dir(f.path), ".credagent-init-"+rand.Text())
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = file.Write(f.content)
	if err == nil {
		err = to.give(file)
	}
	if err == nil {
		err = file.Chmod(f.mode)
	}
	return temporary, errors.Join(err, file.Sync(), file.Close())
}

// takeBack removes what was created, newest first; a directory that others use meanwhile stays.
func (w *making) takeBack() {
	for i := len(w.made) - 1; i >= 0; i-- {
		if os.Remove(w.made[i]) == nil {
			fmt.Fprintf(w.Out, "removed  %s\n", w.made[i])
		}
	}
}

// merged is the part of a configuration to write.
type merged struct {
	old   []byte
	whole []byte // nil: it exists already
}

var ourKeys = regexp.MustCompile(`(?m)^(clients|tokens|sinks)[ \t]*:`)

// merge works out the new configuration. Existing content stays: a file without a client, such as a package's, gets
// the new part appended; one that already has the new part needs nothing.
func (p Plan) merge() (merged, error) {
	name := p.ConfigFile()
	old, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && isThere(name):
		return merged{}, fmt.Errorf("%s is a symbolic link to a file that is not there: make an empty file there, or remove the link", name)
	case errors.Is(err, fs.ErrNotExist):
		return merged{whole: []byte(p.config)}, nil
	case err != nil:
		return merged{}, explain("reading", name, err)
	case bytes.HasSuffix(old, []byte(p.config)):
		return merged{old: old}, nil
	case ourKeys.Match(old):
		return merged{}, fmt.Errorf("%s is there already and says something else, so nothing was made\n    hint: --print shows what would be written, to be put there by hand; or give another --dir", name)
	}
	whole := append(bytes.TrimRight(bytes.Clone(old), "\n"), "\n\n"+p.config...)
	if _, err := config.Parse(name, whole, nothing); err != nil {
		return merged{}, fmt.Errorf("adding to what is there already: %w", err)
	}
	return merged{old, whole}, nil
}

func (w *making) configuration(ctx context.Context, p Plan, m merged) error {
	name := p.ConfigFile()
	if m.whole == nil {
		w.keeps(name, "the configuration")
		return nil
	}
	if m.old == nil {
		return w.file(ctx, item{name, m.whole, 0o644, false, "the configuration"})
	}
	if err := replace(ctx, name, m); err != nil {
		return explain("writing", name, err)
	}
	fmt.Fprintf(w.Out, "added to %s, the configuration: what was there stays\n", name)
	return nil
}

// replace replaces a configuration and keeps its owner. If its name is a symbolic link, the link stays and its target
// is replaced.
func replace(ctx context.Context, name string, m merged) error {
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	temporary, err := prepare(item{path: name, content: m.whole, mode: info.Mode().Perm()}, ownerOf(info))
	if temporary != "" {
		defer os.Remove(temporary)
	}
	if err != nil {
		return err
	}
	now, err := os.ReadFile(name)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(now, m.old):
		return errors.New("somebody else is changing it")
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return os.Rename(temporary, name)
}

// explain adds advice to a system error.
func explain(doing, path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrPermission):
		hint = "\n    hint: run it as root, or name a --dir and a --file in places of your own"
	case errors.Is(err, fs.ErrExist):
		hint = "\n    hint: it is there already; run init again"
	}
	var path1 *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path1):
		err = path1.Err
	case errors.As(err, &link):
		err = link.Err
	}
	return fmt.Errorf("%s %q: %w%s", doing, path, err, hint)
}
