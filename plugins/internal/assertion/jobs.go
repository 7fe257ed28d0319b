package assertion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
)

// The variables by which a job of GitHub Actions asks for an ID token; they are set only where the job
// has the permission.
const (
	githubURL   = "ACTIONS_ID_TOKEN_REQUEST_URL"
	githubToken = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
)

// openGitHub is the ID token of a job of GitHub Actions, and of servers that have the same. Without an audience,
// it is for the owner of the repository.
func openGitHub(h host, settings json.RawMessage, audience string) (getter, error) {
	return func(ctx context.Context) (secret.Value, error) {
		text, token := h.getenv(githubURL), h.getenv(githubToken)
		if text == "" || token == "" {
			return secret.Value{}, fmt.Errorf("%s and %s are not set: this is no job of GitHub Actions, or it lacks permissions: { id-token: write }", githubURL, githubToken)
		}
		at, err := endpoint(githubURL, text, false)
		if err != nil {
			return secret.Value{}, err
		}
		if audience != "" {
			query := at.Query()
			query.Set("audience", audience)
			at.RawQuery = query.Encode()
		}
		q := question{
			url:     at.String(),
			header:  http.Header{"Authorization": {"Bearer " + token}, "Accept": {"application/json"}},
			secrets: []string{token},
		}
		got, err := q.ask(ctx, map[int]string{
			http.StatusUnauthorized: "its request token is good only while the job runs",
			http.StatusForbidden:    "the job lacks permissions: { id-token: write }",
		})
		if err != nil {
			return secret.Value{}, err
		}
		var said struct {
			Value string `json:"value"`
		}
		if err := got.parseJSON(&said); err != nil {
			return secret.Value{}, err
		}
		return secret.New(said.Value), nil
	}, noSettings(settings)
}

// gitlabToken is the variable that GitLab's own examples give an ID token's name.
const gitlabToken = "GITLAB_OIDC_TOKEN" //nolint:gosec // the name of a variable

// openGitLab is an ID token of a job of GitLab CI, which is in the variable that the job's id_tokens name.
func openGitLab(h host, settings json.RawMessage, _ string) (getter, error) {
	s := struct {
		TokenEnv string `json:"token_env"`
	}{gitlabToken}
	err := plugins.DecodeConfig(settings, &s)
	if s.TokenEnv == "" {
		err = errors.Join(err, &plugins.ConfigError{Key: "token_env", Message: "is empty; it names the variable that the job's id_tokens name"})
	}
	return func(context.Context) (secret.Value, error) {
		token := h.getenv(s.TokenEnv)
		if token == "" {
			// Without its name: people put the token in place of the name.
			return secret.Value{}, errors.New("the variable of token_env is not set or empty: this is no job of GitLab CI, or its id_tokens name another one")
		}
		return clean([]byte(token)), nil
	}, err
}

// noSettings reports what is configured of a source that has no keys of its own.
func noSettings(settings json.RawMessage) error {
	var keys map[string]json.RawMessage
	if json.Unmarshal(settings, &keys) != nil {
		return &plugins.ConfigError{Message: "is not an object of keys and values"}
	}
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		problems = append(problems, &plugins.ConfigError{Key: key, Message: "unknown key; this source has none"})
	}
	return errors.Join(problems...)
}
