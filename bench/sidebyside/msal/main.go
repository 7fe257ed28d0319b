// Command msal keeps tokens in files with MSAL for Go, as described in package loop: one confidential client,
// whose cache decides when a request is sent.
package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	msalerrors "github.com/AzureAD/microsoft-authentication-library-for-go/apps/errors"

	"github.com/credagent/credagent/bench/sidebyside/loop"
)

func main() { loop.Main(newLibrary) }

type library struct{ client confidential.Client }

func newLibrary(s loop.Settings) (loop.Library, error) {
	credential, err := confidential.NewCredFromSecret(s.Secret)
	if err != nil {
		return nil, err
	}
	// The server is not Microsoft's, so instance discovery does not know it.
	client, err := confidential.New(s.Authority+"/"+s.Tenant, s.ClientID, credential, confidential.WithInstanceDiscovery(false))
	return library{client}, err
}

// Token implements [loop.Library].
func (l library) Token(ctx context.Context, scope string) (string, error) {
	result, err := l.client.AcquireTokenByCredential(ctx, []string{scope})
	return result.AccessToken, err
}

// Answer implements [loop.Library].
func (l library) Answer(err error) *http.Response {
	var call msalerrors.CallErr
	if !errors.As(err, &call) {
		return nil
	}
	return call.Resp
}
