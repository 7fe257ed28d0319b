package setup

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"

	"github.com/credagent/credagent/internal/process"
)

// searchPath is the whole environment of the validation.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// WhoCalls returns the user who runs this.
func WhoCalls() (Caller, error) {
	me, err := user.Current()
	if err != nil {
		return Caller{}, fmt.Errorf("looking up the user who runs this: %w", err)
	}
	return Caller{Root: os.Geteuid() == 0, Name: me.Username}, nil
}

// Maker finds the users that a plan is for.
func (p Plan) Maker(caller Caller, out io.Writer) (Maker, error) {
	maker := Maker{Out: out, UID: -1, GID: -1}
	reader, name := p.answers.Reader, p.answers.User
	if reader != "" {
		if _, err := lookUp(reader); err != nil {
			return maker, fmt.Errorf("there is no user %q to read the token: give --reader the user that the application runs as", reader)
		}
	}
	service, err := findService(name, caller)
	if err == nil && caller.Root {
		maker.UID, err = strconv.Atoi(service.Uid)
		if err == nil {
			maker.GID, err = strconv.Atoi(service.Gid)
		}
	}
	return maker, err
}

// CheckUser reports, before anything is asked, if there is no user to run the agent.
func CheckUser(a Answers, caller Caller) error {
	if a.Print || a.Kubernetes {
		return nil
	}
	_, err := findService(cmp.Or(a.User, usualUser(caller)), caller)
	return err
}

// findService finds the user who runs the agent, for whom the caller can create files.
func findService(name string, caller Caller) (*user.User, error) {
	service, err := lookUp(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("there is no user %q to run the agent: make it with useradd --system %s, or give --user", name, name)
	case !caller.Root && service.Username != caller.Name:
		return nil, fmt.Errorf("only root can make files for the user %q: run it as root, or give --user %s", name, caller.Name)
	}
	return service, nil
}

func lookUp(name string) (*user.User, error) {
	found, err := user.Lookup(name)
	if _, notNumber := strconv.Atoi(name); err != nil && notNumber == nil {
		return user.LookupId(name)
	}
	return found, err
}

// Validate checks the configuration as the user who will read it, in a new process of this program.
func (m Maker) Validate(ctx context.Context, p Plan) error {
	self, err := process.Self()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	command := process.Command{
		Path: self, Args: []string{"credagent", "validate", "-c", p.ConfigFile()}, Dir: "/", Env: []string{searchPath},
	}
	for _, file := range p.reads() {
		command.Args = append(command.Args, "--readable", file)
	}
	if m.UID < 0 {
		err = process.Run(ctx, command, &said)
	} else {
		err = process.RunAs(ctx, command, m.UID, m.GID, &said)
	}
	if err != nil {
		return p.invalid(err, bytes.TrimPrefix(bytes.TrimSpace(said.Bytes()), []byte("credagent: ")))
	}
	_, err = fmt.Fprintf(m.Out, "valid    %s, as the user %s\n", p.ConfigFile(), p.answers.User)
	return err
}

func (p Plan) invalid(err error, said []byte) error {
	hint := ""
	if bytes.Contains(said, []byte("hint: ")) {
		return fmt.Errorf("validating %q as the user %q: %w\n%s", p.ConfigFile(), p.answers.User, err, said)
	}
	if bytes.Contains(said, []byte("permission denied")) {
		hint = fmt.Sprintf("\n    hint: that user has to reach %s: open the directories above it, or give another --dir", p.answers.Dir)
	}
	return fmt.Errorf("validating %q as the user %q: %w\n%s%s", p.ConfigFile(), p.answers.User, err, said, hint)
}

// WriteInstructions writes the steps to take at the server, and the three commands to run next.
func (p Plan) WriteInstructions(out io.Writer, caller Caller) error {
	steps, err := p.Steps()
	if err != nil {
		return err
	}
	page := "docs/servers/" + p.server.Name + ".md"
	if installed := "/usr/share/doc/credagent/" + page; isThere(installed) {
		page = installed
	}
	fmt.Fprintf(out, "\n%s\nMore: %s. Then:\n", steps, page)
	for _, command := range p.next(caller, hasUnit()) {
		if _, err := fmt.Fprintf(out, "  %s\n", command); err != nil {
			return err
		}
	}
	return nil
}

// hasUnit reports whether credagent is installed as a service.
func hasUnit() bool {
	for _, unit := range []string{"/etc/systemd/system/credagent.service", "/usr/lib/systemd/system/credagent.service"} {
		if isThere(unit) {
			return true
		}
	}
	return false
}
