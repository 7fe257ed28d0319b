// Command baseline is the smallest program that does credagent's main job with x/oauth2: one
// request, one atomic write. Benchmarks run it beside credagent.
package main

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run takes the token endpoint, the file of the secret of the client "app", and the file to write.
func run(tokenURL, secretFile, path string) error {
	secret, err := os.ReadFile(secretFile)
	if err != nil {
		return err
	}
	config := clientcredentials.Config{
		ClientID: "app", ClientSecret: string(secret), TokenURL: tokenURL,
		Scopes: []string{"read"}, AuthStyle: oauth2.AuthStyleInHeader,
	}
	token, err := config.Token(context.Background())
	if err != nil {
		return err
	}
	temporary := path + ".tmp"
	if err := os.WriteFile(temporary, []byte(token.AccessToken), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
