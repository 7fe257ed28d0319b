// Command azidentity is a workload with the Azure SDK for Go, which knows nothing of credagent but
// what its environment says. For each line of JSON on standard input it asks for a token, often and
// at once, and answers with a line of JSON: how often it got which token, and what went wrong.
//
// It is a module of its own, so that credagent does not depend on the SDK.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// order is what to ask for.
type order struct {
	Credential string `json:"credential"` // managed or default
	ClientID   string `json:"client_id"`
	Scope      string `json:"scope"`
	Calls      int    `json:"calls"`
	Callers    int    `json:"callers"`
}

// answer is what came of it.
type answer struct {
	Tokens    map[string]int `json:"tokens"`
	ExpiresOn int64          `json:"expires_on"`
	Errors    []string       `json:"errors"`
}

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(in io.Reader, out io.Writer) error {
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		credential, err := newCredential(o)
		if err != nil {
			return err
		}
		if err := answers.Encode(ask(credential, o)); err != nil {
			return err
		}
	}
}

func newCredential(o order) (azcore.TokenCredential, error) {
	switch {
	case o.Credential == "default":
		return azidentity.NewDefaultAzureCredential(nil)
	case o.ClientID != "":
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(o.ClientID)})
	}
	return azidentity.NewManagedIdentityCredential(nil)
}

func ask(credential azcore.TokenCredential, o order) answer {
	a := answer{Tokens: map[string]int{}, Errors: []string{}}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for range o.Callers {
		asking.Go(func() {
			for range o.Calls / o.Callers {
				got, err := credential.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{o.Scope}})
				mu.Lock()
				if err != nil {
					a.Errors = append(a.Errors, err.Error())
				} else {
					a.Tokens[got.Token]++
					a.ExpiresOn = got.ExpiresOn.Unix()
				}
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	return a
}
