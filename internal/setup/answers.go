package setup

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Answers are the user's answers, from flags or prompts.
type Answers struct {
	Server     string
	ClientID   string
	Tenant     string
	Issuer     string
	Credential string
	Scope      string
	Audience   string
	CAFile     string
	File       string
	Reader     string
	User       string
	Dir        string
	Kubernetes bool // manifests instead
	Print      bool // only print, create nothing
}

// The default answers.
const (
	defaultFile = "/run/credagent/app.token"
	defaultDir  = "/etc/credagent"
)

// Caller is the user who runs init.
type Caller struct {
	Root bool
	Name string
}

// complete fills in the defaults.
func (a Answers) complete(s Server, caller Caller) Answers {
	fill := func(field *string, usual string) {
		if *field == "" {
			*field = usual
		}
	}
	fill(&a.Credential, s.credentials[0])
	fill(&a.Scope, s.scope)
	fill(&a.File, defaultFile)
	fill(&a.Dir, defaultDir)
	fill(&a.User, usualUser(caller))
	return a
}

// usualUser returns the default owner of the files: only root can create another user's.
func usualUser(caller Caller) string {
	if caller.Root {
		return "credagent"
	}
	return caller.Name
}

// missing names the flags that have no default and were not given.
func (a Answers) missing(s Server) []string {
	var flags []string
	if a.ClientID == "" {
		flags = append(flags, "--client-id")
	}
	switch {
	case s.Name == "entra" && a.Tenant == "":
		flags = append(flags, "--tenant")
	case s.Name == "entra":
	case s.fromTenant != "" && a.Tenant == "" && a.Issuer == "":
		flags = append(flags, "--tenant")
	case s.fromTenant == "" && s.fixed == "" && a.Issuer == "":
		flags = append(flags, "--issuer")
	}
	if s.audience != "" && a.Audience == "" {
		flags = append(flags, "--audience")
	}
	return flags
}

// Lacks reports whether an answer without a default is missing.
func Lacks(a Answers) bool {
	s, err := Find(a.Server)
	return a.Server == "" || err == nil && len(a.missing(s)) > 0
}

// check finds every invalid answer, one error for each.
func (a Answers) check(s Server) []error {
	var wrong []error
	add := func(err error) {
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	if flags := a.missing(s); len(flags) > 0 {
		add(fmt.Errorf("%s needs %s", s.Title, strings.Join(flags, ", ")))
	} else {
		_, err := s.origin(a)
		add(err)
	}
	add(s.checkTenant(a.Tenant))
	if a.Issuer == "" { // otherwise it may be a test server, whose client ids are names
		add(s.checkClientID(a.ClientID))
	}
	add(s.checkRealm(a.Issuer))
	add(checkScope(a.Scope))
	if a.Tenant != "" && s.tenant == "" {
		add(fmt.Errorf("%s has no --tenant: give --issuer, %s", s.Title, s.issuer))
	}
	if a.Audience != "" && s.audience == "" && s.Name != "generic" {
		add(fmt.Errorf("%s has no --audience: leave it out", s.Title))
	}
	add(s.takes(a.Credential))
	for flag, path := range map[string]string{"--file": a.File, "--dir": a.Dir, "--ca-file": a.CAFile} {
		if path != "" && !filepath.IsAbs(path) {
			add(fmt.Errorf("%s %q is not an absolute path: start it with a slash", flag, path))
		}
	}
	if a.Kubernetes && filepath.IsAbs(a.File) {
		add(checkPodFile(a.File))
	}
	if s.Name == "entra" && !strings.HasSuffix(a.Scope, "/.default") {
		add(fmt.Errorf("--scope %q does not end in /.default, as Entra wants it: give the API's identifier with /.default behind it", a.Scope))
	}
	for flag, text := range map[string]string{
		"--client-id": a.ClientID, "--tenant": a.Tenant, "--issuer": a.Issuer, "--scope": a.Scope, "--audience": a.Audience,
		"--file": a.File, "--dir": a.Dir, "--ca-file": a.CAFile, "--reader": a.Reader, "--user": a.User,
	} {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			add(fmt.Errorf("%s %q has a character that cannot stand there", flag, text))
		}
	}
	return wrong
}
