// Command azidentity keeps tokens in files with the Azure SDK for Go, as described in package loop: one credential,
// whose cache decides when a request is sent.
package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/credagent/credagent/bench/sidebyside/loop"
)

func main() { loop.Main(newLibrary) }

type library struct {
	credential *azidentity.ClientSecretCredential
}

func newLibrary(s loop.Settings) (loop.Library, error) {
	credential, err := azidentity.NewClientSecretCredential(s.Tenant, s.ClientID, s.Secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: azcore.ClientOptions{Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: s.Authority}},
		// The server is not Microsoft's, so instance discovery does not know it.
		DisableInstanceDiscovery: true,
	})
	return library{credential}, err
}

// Token implements [loop.Library].
func (l library) Token(ctx context.Context, scope string) (string, error) {
	token, err := l.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	return token.Token, err
}

// Answer implements [loop.Library].
func (l library) Answer(err error) *http.Response {
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) {
		return nil
	}
	return failed.RawResponse
}
