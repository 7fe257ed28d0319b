package assertion

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/keyfile"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// The variables by which a pod finds the API server.
const (
	kubernetesHost = "KUBERNETES_SERVICE_HOST"
	kubernetesPort = "KUBERNETES_SERVICE_PORT"
)

// podAccount is where a pod has the token of its service account, and the API server's roots.
const podAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// kubernetesLife is the shortest life that the API server gives a token, in seconds: it is used at once.
const kubernetesLife = 600

// openKubernetes is a token of the pod's own service account for an audience, by the TokenRequest API
// (https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/).
func openKubernetes(h host, settings json.RawMessage, audience string) (getter, error) {
	return func(ctx context.Context) (secret.Value, error) {
		address, port := h.getenv(kubernetesHost), h.getenv(kubernetesPort)
		if address == "" || port == "" {
			return secret.Value{}, fmt.Errorf("%s and %s are not set: this is no pod", kubernetesHost, kubernetesPort)
		}
		own, err := readAccount(h.account)
		if err != nil {
			return secret.Value{}, err
		}
		body, err := own.tokenRequest(audience)
		if err != nil {
			return secret.Value{}, err
		}
		q := question{
			method: http.MethodPost,
			url: (&url.URL{Scheme: "https", Host: net.JoinHostPort(address, port)}).
				JoinPath("api/v1/namespaces", own.namespace, "serviceaccounts", own.name, "token").String(),
			header: http.Header{
				"Authorization": {"Bearer " + own.token}, "Content-Type": {"application/json"}, "Accept": {"application/json"},
			},
			body:    body,
			secrets: []string{own.token},
			roots:   own.roots,
		}
		got, err := q.ask(ctx, map[int]string{
			http.StatusUnauthorized: "the API server does not accept the pod's own token",
			http.StatusForbidden:    fmt.Sprintf("a Role has to let the account %s create serviceaccounts/token of that name", own.name),
			http.StatusNotFound:     "the pod's service account is gone",
		})
		if err != nil {
			return secret.Value{}, err
		}
		return readTokenRequest(got, audience)
	}, noSettings(settings)
}

// account is a pod's service account, as the pod sees it.
type account struct {
	token           string // by which it asks
	namespace, name string
	pod, podUID     string // that the token is bound to; "" for none
	roots           *x509.CertPool
}

// readAccount reads what the kubelet puts into a pod, afresh, because it replaces the token and may replace the
// roots.
func readAccount(dir string) (account, error) {
	data, err := credfile.Read("the pod's own token", filepath.Join(dir, "token"))
	if err != nil {
		return account{}, err
	}
	defer clear(data)
	own := account{token: clean(data).Reveal(), roots: x509.NewCertPool()}
	var claims struct {
		Subject    string `json:"sub"`
		Kubernetes struct {
			Pod struct {
				Name string `json:"name"`
				UID  string `json:"uid"`
			} `json:"pod"`
		} `json:"kubernetes.io"`
	}
	parts := strings.Split(own.token, ".")
	if len(parts) != signedParts || !decode(parts[1], &claims) {
		return account{}, errors.New("the pod's own token is not one of a service account: " + errNoJWT().Error())
	}
	own.pod, own.podUID = claims.Kubernetes.Pod.Name, claims.Kubernetes.Pod.UID
	names := strings.Split(claims.Subject, ":") // system:serviceaccount:NAMESPACE:NAME
	if len(names) != 4 || names[1] != "serviceaccount" || names[2] == "" || names[3] == "" {
		return account{}, errors.New("the pod's own token is not one of a service account: its subject names none")
	}
	own.namespace, own.name = names[2], names[3]
	roots, err := credfile.Read("the API server's roots", filepath.Join(dir, "ca.crt"))
	if err != nil {
		return account{}, err
	}
	certificates, err := keyfile.Certificates(roots)
	for _, root := range certificates {
		own.roots.AddCert(root)
	}
	return own, err
}

// tokenRequest is what is asked for. A token that is bound to the pod ends with it.
func (a account) tokenRequest(audience string) ([]byte, error) {
	type object struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Name       string `json:"name,omitempty"`
		UID        string `json:"uid,omitempty"`
	}
	type spec struct {
		Audiences         []string `json:"audiences"`
		ExpirationSeconds int      `json:"expirationSeconds"`
		BoundObjectRef    *object  `json:"boundObjectRef,omitempty"`
	}
	asked := struct {
		object
		Spec spec `json:"spec"`
	}{object{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"}, spec{Audiences: []string{audience}, ExpirationSeconds: kubernetesLife}}
	if a.pod != "" && a.podUID != "" {
		asked.Spec.BoundObjectRef = &object{APIVersion: "v1", Kind: "Pod", Name: a.pod, UID: a.podUID}
	}
	return json.Marshal(asked)
}

// readTokenRequest takes the token out of the API server's answer, unless that itself says that it is of no use.
func readTokenRequest(got answer, audience string) (secret.Value, error) {
	var said struct {
		Spec struct {
			Audiences []string `json:"audiences"`
		} `json:"spec"`
		Status struct {
			Token   string    `json:"token"`
			Expires time.Time `json:"expirationTimestamp"`
		} `json:"status"`
	}
	if err := got.parseJSON(&said); err != nil {
		return secret.Value{}, err
	}
	switch {
	case len(said.Spec.Audiences) > 0 && !slices.Contains(said.Spec.Audiences, audience):
		return secret.Value{}, errors.New("it handed out a token for another audience than the one that was asked for")
	case expired(said.Status.Expires):
		return secret.Value{}, fmt.Errorf("it handed out a token that expired at %s", said.Status.Expires.UTC().Format(time.RFC3339))
	}
	return secret.New(said.Status.Token), nil
}
