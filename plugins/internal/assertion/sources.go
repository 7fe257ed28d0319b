package assertion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
)

// host is where sources find the platform. Tests have one of their own.
type host struct {
	getenv   func(string) string
	metadata string // URL of a cloud's metadata service
	account  string // directory of a pod's service account

	arcAgent, arcTokens string // the program of Azure Arc's agent, and the directory of its challenges
	arcEndpoint         string // URL of that agent's service
}

func thisHost() host {
	h := host{getenv: os.Getenv, metadata: metadataAddress, account: podAccount, arcEndpoint: "http://127.0.0.1:40342/metadata/identity/oauth2/token"}
	h.arcAgent, h.arcTokens = arcPlaces()
	return h
}

// getter gets one token, by one question to the platform.
type getter func(context.Context) (secret.Value, error)

// kind is a kind of source.
type kind struct {
	// open checks the source's own settings. Its problems' keys are those of the settings.
	open func(h host, settings json.RawMessage, audience string) (getter, error)
	// audience is what to do about one that is missing, for a source that needs one, or too much, for one
	// that takes none.
	needs, refuses string
	expired        string // what it means that a token has expired
	lasting        bool   // it hands out the same token each time
}

// kinds are all kinds of source, by their keys.
func kinds() map[string]kind {
	const needsAudience = "is needed: whom the assertion is for, as the server wants it, often its issuer or its token endpoint"
	return map[string]kind{
		"kubernetes": {open: openKubernetes, needs: needsAudience, expired: "compare this host's clock with the API server's"},
		"azure": {
			open:    openAzure,
			refuses: "is not for source azure: its resource is the audience",
			expired: "compare this host's clock with Azure's",
		},
		"command": {
			open:    openCommand,
			refuses: "is not for source command: give it to the program, as its run wants it",
			expired: "the program prints an old one",
		},
		"gcp":    {open: openGCP, needs: needsAudience, expired: "compare this host's clock with Google's"},
		"spiffe": {open: openSPIFFE, needs: needsAudience, expired: "compare this host's clock with the SPIFFE server's"},
		"github": {open: openGitHub, expired: "compare this host's clock with GitHub's"},
		"gitlab": {
			open: openGitLab, lasting: true,
			refuses: "is not for source gitlab: the job's id_tokens decide it, by their key aud",
			expired: "it is good for as long as the job may take: give the job a longer timeout",
		},
	}
}

// open opens a source. Each problem in its error is a [plugins.ConfigError].
func open(h host, config json.RawMessage, audience string) (Source, error) {
	var named map[string]json.RawMessage
	if err := json.Unmarshal(config, &named); err != nil || named == nil {
		return Source{}, &plugins.ConfigError{Key: "source", Message: "is not an object of one source and its keys, such as { gcp: {} }"}
	}
	all := kinds()
	known := strings.Join(slices.Sorted(maps.Keys(all)), ", ")
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if _, ok := all[name]; !ok {
			problems = append(problems, &plugins.ConfigError{Key: "source." + name, Message: "unknown key; known are " + known})
		}
	}
	switch {
	case len(problems) > 0:
		return Source{}, errors.Join(problems...)
	case len(named) != 1:
		return Source{}, &plugins.ConfigError{Key: "source", Message: "names " + fmt.Sprint(len(named)) + " sources; exactly one is needed, of " + known}
	}
	for name, settings := range named {
		return all[name].source(h, name, settings, audience)
	}
	return Source{}, nil // not reached: there is one
}

// source opens a source of a kind.
func (k kind) source(h host, name string, settings json.RawMessage, audience string) (Source, error) {
	var problem error
	switch {
	case audience == "" && k.needs != "":
		problem = &plugins.ConfigError{Key: "audience", Message: k.needs}
	case audience != "" && k.refuses != "":
		problem = &plugins.ConfigError{Key: "audience", Message: k.refuses}
	}
	if string(settings) == "null" {
		settings = json.RawMessage("{}")
	}
	get, err := k.open(h, settings, audience)
	if err := errors.Join(problem, under("source."+name, err)); err != nil {
		return Source{}, err
	}
	doing := "asking source " + name
	return Source{
		doing: doing, expired: k.expired, lasting: k.lasting,
		get: func(ctx context.Context) (secret.Value, error) {
			value, err := get(ctx)
			if err == nil && value.IsZero() {
				err = errors.New("it handed out an empty token")
			}
			if err != nil {
				return secret.Value{}, fmt.Errorf("%s: %w", doing, err)
			}
			return value, nil
		},
	}, nil
}

// under places problems of a part of a configuration in the whole.
func under(place string, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, part := range joined.Unwrap() {
			all = append(all, under(place, part))
		}
		return errors.Join(all...)
	}
	var problem *plugins.ConfigError
	if !errors.As(err, &problem) {
		return err
	}
	return &plugins.ConfigError{Key: strings.TrimSuffix(place+"."+problem.Key, "."), Message: problem.Message}
}
