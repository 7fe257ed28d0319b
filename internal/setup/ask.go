package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Console is the terminal on which the user is asked.
type Console struct {
	In  io.Reader
	Out io.Writer
}

// question is one question to the user.
type question struct {
	answer *string
	title  string
	help   string
	usual  string
	needed bool
	check  func(string) error // nil for none
}

// Ask asks for the missing answers. It does not ask for those that were given.
func (c Console) Ask(ctx context.Context, a Answers, caller Caller) (Answers, error) {
	fmt.Fprintln(c.Out, "Empty takes what is in brackets. Ctrl-C ends it, and nothing is made.")
	if err := c.ask(ctx, serverQuestion(&a)); err != nil {
		return a, err
	}
	s, err := Find(a.Server)
	if err != nil {
		return a, err
	}
	for _, q := range questions(s, &a, caller) {
		if err := c.ask(ctx, q); err != nil {
			return a, err
		}
	}
	if a.Print || a.Kubernetes {
		return a, nil
	}
	return a, c.confirm(ctx, s, a.complete(s, caller))
}

func serverQuestion(a *Answers) question {
	var help strings.Builder
	for _, s := range Servers() {
		fmt.Fprintf(&help, "\n  %-10s %s", s.Name, s.Title)
	}
	return question{&a.Server, "Server", "What the tokens come from:" + help.String(), "entra", true, func(name string) error {
		_, err := Find(name)
		return err
	}}
}

// questions returns the questions about one server, in order.
func questions(s Server, a *Answers, caller Caller) []question {
	var all []question
	switch {
	case s.tenant != "" && a.Issuer == "" || s.Name == "entra":
		all = append(all, question{&a.Tenant, "Tenant", capital(s.tenant) + ".", "", true, s.checkTenant})
	case s.tenant == "" && s.fixed == "":
		all = append(all, question{&a.Issuer, "Issuer", capital(s.issuer) + ".", "", true, func(issuer string) error {
			return cmp.Or(checkURL(issuer), s.checkRealm(issuer))
		}})
	}
	all = append(all, question{&a.ClientID, "Client ID", "What the server calls this client (application, app client, consumer key).", "", true, func(id string) error {
		if a.Issuer != "" {
			return nil
		}
		return s.checkClientID(id)
	}})
	all = append(all, question{&a.Credential, "Credential",
		"How the client proves who it is:" + s.credentialHelp(), s.credentials[0], true, s.takes})
	if s.audience != "" {
		all = append(all, question{&a.Audience, "Audience", "What the token is for: " + s.audience + ".", "", true, nil})
	}
	fits := absolute
	if a.Kubernetes {
		fits = func(path string) error { return cmp.Or(absolute(path), checkPodFile(path)) }
	}
	all = append(all,
		question{&a.Scope, "Scope", "What the token allows: " + s.scopeHelp + ".", s.scope, false, checkScope},
		question{&a.File, "File", "Where the token is written, for the application to read.", defaultFile, true, fits},
	)
	if a.Kubernetes {
		return all // the pod's group reads it
	}
	return append(all,
		question{&a.Reader, "Reader", "The user that the application runs as, who may read the file; with none, only " + cmp.Or(a.User, usualUser(caller)) + " may.", "", false, isUser},
	)
}

// credentialHelp has a line for each credential that the server accepts.
func (s Server) credentialHelp() string {
	help := map[string]string{
		Certificate: "a key that stays on this host, and its certificate for the server",
		Secret:      "a text that the server shows, which is asked for at the end",
		Assertion:   "a token that something else makes and keeps fresh, such as a cluster",
	}
	var text strings.Builder
	for _, credential := range s.credentials {
		fmt.Fprintf(&text, "\n  %-11s %s", credential, help[credential])
	}
	return text.String()
}

func isUser(name string) error {
	if _, err := lookUp(name); err != nil {
		return fmt.Errorf("there is no user %q on this host", name)
	}
	return nil
}

func absolute(path string) error {
	if strings.HasPrefix(path, "/") {
		return nil
	}
	return fmt.Errorf("%q is not an absolute path: start it with a slash", path)
}

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// ask asks until the answer is valid.
func (c Console) ask(ctx context.Context, q question) error {
	if *q.answer != "" {
		return nil
	}
	if q.help != "" {
		fmt.Fprintf(c.Out, "\n%s\n", wrap(q.help))
	}
	for {
		fmt.Fprintf(c.Out, "%s [%s]: ", q.title, cmp.Or(q.usual, map[bool]string{true: "needed", false: "none"}[q.needed]))
		text, err := readLine(ctx, c.In)
		if err != nil {
			fmt.Fprintln(c.Out)
			return err
		}
		text = cmp.Or(text, q.usual)
		switch {
		case text == "" && q.needed:
			err = errors.New("this one is needed")
		case text != "" && q.check != nil:
			err = q.check(text)
		}
		if err == nil {
			*q.answer = text
			return nil
		}
		fmt.Fprintf(c.Out, "  %v\n", err)
	}
}

// confirm shows what will be created before anything is.
func (c Console) confirm(ctx context.Context, s Server, a Answers) error {
	text := fmt.Sprintf("This makes what is not there yet in %s, for the user %s: a configuration for %s", a.Dir, a.User, s.Title)
	switch a.Credential {
	case Certificate:
		text += ", a key and its certificate"
	case Secret:
		text += ", and a file with the secret, which is asked for next"
	}
	fmt.Fprintf(c.Out, "\n%s\n", wrap(fmt.Sprintf("%s. The token will be in %s, which %s may read.", text, a.File, cmp.Or(a.Reader, a.User))))
	answer := ""
	err := c.ask(ctx, question{&answer, "Go on", "", "yes", true, func(text string) error {
		if text != "yes" && text != "y" && text != "no" && text != "n" {
			return errors.New("yes or no")
		}
		return nil
	}})
	if err == nil && strings.HasPrefix(answer, "n") {
		err = ErrEnded
	}
	return err
}

// columns is the least width of a terminal.
const columns = 80

// wrap breaks lines that are wider than a terminal at spaces, and keeps their indentation.
func wrap(text string) string {
	var out strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			out.WriteByte('\n')
		}
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		for len(line) > columns {
			at := strings.LastIndexByte(line[:columns+1], ' ')
			if at <= len(indent) { // one long word
				if at = strings.IndexByte(line[len(indent):], ' '); at < 0 {
					break
				}
				at += len(indent)
			}
			out.WriteString(line[:at] + "\n")
			line = indent + line[at+1:]
		}
		out.WriteString(line)
	}
	return out.String()
}

// ErrEnded means that the user ended the questions.
var ErrEnded = errors.New("ended; nothing was made")

// readLine reads exactly one line: what follows may be a secret, which is read elsewhere.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type result struct {
		text string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := readBytes(in)
		read <- result{text, err}
	}()
	select {
	case r := <-read:
		return r.text, r.err
	case <-ctx.Done():
		return "", ErrEnded
	}
}

func readBytes(in io.Reader) (string, error) {
	var text []byte
	for one := make([]byte, 1); len(text) < 4096; {
		n, err := in.Read(one)
		switch {
		case n == 1 && one[0] == '\n':
			return strings.TrimSpace(string(text)), nil
		case n == 1:
			text = append(text, one[0])
		}
		if err != nil {
			return "", ErrEnded
		}
	}
	return "", errors.New("the answer is too long")
}
