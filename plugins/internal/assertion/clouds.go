package assertion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// metadataAddress is where most clouds have their metadata service, a link-local address.
const metadataAddress = "http://169.254.169.254"

// gcpHost is the variable by which Google's own libraries find a metadata server elsewhere.
const gcpHost = "GCE_METADATA_HOST"

// openGCP is the identity of a Google Cloud workload, an ID token of its service account from the metadata
// server (https://cloud.google.com/compute/docs/instances/verifying-instance-identity).
func openGCP(h host, settings json.RawMessage, audience string) (getter, error) {
	return func(ctx context.Context) (secret.Value, error) {
		base := h.metadata
		if own := h.getenv(gcpHost); own != "" {
			base = "http://" + own
		}
		at, err := endpoint(gcpHost, base, true)
		if err != nil {
			return secret.Value{}, err
		}
		q := question{
			url: at.JoinPath("computeMetadata/v1/instance/service-accounts/default/identity").String() +
				"?" + url.Values{"audience": {audience}, "format": {"full"}}.Encode(),
			header: http.Header{"Metadata-Flavor": {"Google"}},
			near:   true,
			absent: "is this host in Google Cloud?",
		}
		got, err := q.ask(ctx, map[int]string{
			http.StatusNotFound:  "this is not Google Cloud, or the machine has no service account",
			http.StatusForbidden: "something on the way, such as the cluster's own metadata server, does not let this workload ask",
		})
		if err != nil {
			return secret.Value{}, err
		}
		if got.header.Get("Metadata-Flavor") != "Google" {
			return secret.Value{}, errors.New("what answered is not Google's metadata server, which sends a header Metadata-Flavor")
		}
		return clean(got.body), nil
	}, noSettings(settings)
}

// azure is the configuration of the source of that name.
type azure struct {
	Resource string `json:"resource"`
	ClientID string `json:"client_id"`
}

// azureResource is the resource whose tokens Entra takes as the assertion of another application that has the
// managed identity as a federated credential.
const azureResource = "api://AzureADTokenExchange"

// The variables by which the forms of managed identity are told apart, as Azure's own libraries do.
const (
	azureEndpoint   = "IDENTITY_ENDPOINT"
	azureHeader     = "IDENTITY_HEADER"
	azureIMDS       = "IMDS_ENDPOINT"
	azureThumbprint = "IDENTITY_SERVER_THUMBPRINT"
)

// openAzure is a managed identity of Azure, in whichever form the host has it: of App Service, Functions and
// Container Apps, of Azure Arc, or of a virtual machine.
func openAzure(h host, settings json.RawMessage, _ string) (getter, error) {
	a := azure{Resource: azureResource}
	err := plugins.DecodeConfig(settings, &a)
	if a.Resource == "" {
		err = errors.Join(err, &plugins.ConfigError{Key: "resource", Message: "is empty; it is " + azureResource + " unless the server wants another"})
	}
	return func(ctx context.Context) (secret.Value, error) {
		ask, err := a.form(h)
		if err != nil {
			return secret.Value{}, err
		}
		got, err := ask(ctx)
		if err != nil {
			return secret.Value{}, err
		}
		return a.read(got)
	}, err
}

// form chooses how to ask.
func (a azure) form(h host) (func(context.Context) (answer, error), error) {
	own := h.getenv(azureEndpoint)
	switch {
	case own != "" && h.getenv(azureThumbprint) != "":
		return nil, errors.New("this is Service Fabric, whose managed identity credagent does not know; use source command with a program that does")
	case own != "" && h.getenv(azureHeader) != "":
		at, err := endpoint(azureEndpoint, own, true)
		return func(ctx context.Context) (answer, error) { return a.askAppService(ctx, at, h.getenv(azureHeader)) }, err
	case own != "" && h.getenv(azureIMDS) != "":
		at, err := endpoint(azureEndpoint, own, true)
		return func(ctx context.Context) (answer, error) { return a.askArc(ctx, at, h.arcTokens) }, err
	}
	if _, err := os.Stat(h.arcAgent); err == nil {
		at, err := endpoint(azureEndpoint, h.arcEndpoint, true)
		return func(ctx context.Context) (answer, error) { return a.askArc(ctx, at, h.arcTokens) }, err
	}
	at, err := endpoint(azureEndpoint, h.metadata+"/metadata/identity/oauth2/token", true)
	return func(ctx context.Context) (answer, error) { return a.askIMDS(ctx, at) }, err
}

func (a azure) question(at *url.URL, version string) question {
	query := url.Values{"api-version": {version}, "resource": {a.Resource}}
	if a.ClientID != "" {
		query.Set("client_id", a.ClientID)
	}
	full := *at
	full.RawQuery = query.Encode()
	return question{url: full.String(), header: http.Header{"Metadata": {"true"}}, near: true, absent: "is this host in Azure?"}
}

// noIdentity is what a refused request mostly means.
const noIdentity = "check that the managed identity is assigned to this host (client_id, where it is one that a user assigned), and resource"

// askIMDS asks the metadata service of a virtual machine. Microsoft has its clients ask again after a 404 and
// a 410: the service is being updated.
func (a azure) askIMDS(ctx context.Context, at *url.URL) (answer, error) {
	q := a.question(at, "2018-02-01")
	q.passing = []int{http.StatusNotFound, http.StatusGone}
	return q.ask(ctx, map[int]string{
		http.StatusBadRequest: noIdentity,
		http.StatusNotFound:   "this is not Azure, or its metadata service is being updated",
		http.StatusGone:       "the metadata service is being updated",
	})
}

// askAppService asks the local service of App Service and what is built on it.
func (a azure) askAppService(ctx context.Context, at *url.URL, header string) (answer, error) {
	q := a.question(at, "2019-08-01")
	q.header = http.Header{"X-Identity-Header": {header}}
	q.secrets = []string{header}
	return q.ask(ctx, map[int]string{
		http.StatusBadRequest: noIdentity,
		http.StatusNotFound:   noIdentity,
	})
}

// maxArcKey bounds the file by which Azure Arc has a client show that it may read it, in bytes.
const maxArcKey = 4096

// askArc asks the agent of Azure Arc, which names a file that only local administrators and its own group can
// read: what is in it goes with the question that counts.
func (a azure) askArc(ctx context.Context, at *url.URL, tokens string) (answer, error) {
	if a.ClientID != "" {
		return answer{}, errors.New("this host is connected by Azure Arc, which has no identities that a user assigned; leave client_id out")
	}
	q := a.question(at, "2020-06-01")
	hints := map[int]string{http.StatusBadRequest: noIdentity}
	got, err := q.ask(ctx, hints, http.StatusUnauthorized)
	if err != nil || got.status != http.StatusUnauthorized {
		return got, err
	}
	key, err := arcKey(got.header.Get("Www-Authenticate"), tokens)
	if err != nil {
		return answer{}, err
	}
	q.header.Set("Authorization", "Basic "+key)
	q.secrets = []string{key}
	return q.ask(ctx, hints)
}

// arcKey reads the file that a challenge names, which is one of the agent's own and nobody else's.
func arcKey(challenge, tokens string) (string, error) {
	path, found := strings.CutPrefix(challenge, "Basic realm=")
	path = strings.Trim(path, `"`)
	if !found || filepath.Dir(path) != tokens || filepath.Ext(path) != ".key" {
		return "", fmt.Errorf("the challenge of Azure Arc names no file of its own, which would be one in %s", tokens)
	}
	data, err := credfile.Read("the key of Azure Arc's challenge", path)
	if errors.Is(err, os.ErrPermission) {
		return "", fmt.Errorf("%w; it is enough to put that user into the group himds", err)
	}
	if err != nil {
		return "", err
	}
	defer clear(data)
	if len(data) > maxArcKey {
		return "", fmt.Errorf("the key of Azure Arc's challenge is larger than %d bytes, so it is none", maxArcKey)
	}
	return string(data), nil
}

// arcPlaces are where Azure Arc's agent is installed, and where it has the files of its challenges.
func arcPlaces() (agent, tokens string) {
	if runtime.GOOS == "windows" {
		return `C:\Program Files\AzureConnectedMachineAgent\himds.exe`, `C:\ProgramData\AzureConnectedMachineAgent\Tokens`
	}
	return "/opt/azcmagent/bin/himds", "/var/opt/azcmagent/tokens"
}

// read takes the token out of an answer, unless the answer itself says that it is of no use.
func (a azure) read(got answer) (secret.Value, error) {
	var said struct {
		AccessToken string `json:"access_token"`
		Resource    string `json:"resource"`
		ExpiresOn   any    `json:"expires_on"` // a number, mostly in a string
	}
	if err := got.parseJSON(&said); err != nil {
		return secret.Value{}, err
	}
	if said.Resource != "" && strings.TrimSuffix(said.Resource, "/") != strings.TrimSuffix(a.Resource, "/") {
		return secret.Value{}, errors.New("it handed out a token for another resource than the one that was asked for")
	}
	if end := instant(said.ExpiresOn); expired(end) {
		return secret.Value{}, fmt.Errorf("it handed out a token that expired at %s", end.UTC().Format(time.RFC3339))
	}
	return secret.New(said.AccessToken), nil
}
