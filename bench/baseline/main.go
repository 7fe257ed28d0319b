// Command baseline is the smallest program that does credagent's main job with x/oauth2: one
// request, one atomic write; and again at half of the token's life, if it is to keep it. Benchmarks
// run it beside credagent.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// main takes the token endpoint, the file of the secret of the client "app", the file to write, and
// "keep" where the token is to be kept fresh.
func main() {
	tokenURL, secretFile, path := os.Args[1], os.Args[2], os.Args[3]
	for {
		token, err := get(tokenURL, secretFile, path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if len(os.Args) < 5 {
			return
		}
		<-time.After(time.Until(token.Expiry) / 2)
	}
}

func get(tokenURL, secretFile, path string) (*oauth2.Token, error) {
	secret, err := os.ReadFile(secretFile)
	if err != nil {
		return nil, err
	}
	config := clientcredentials.Config{
		ClientID: "app", ClientSecret: string(secret), TokenURL: tokenURL,
		Scopes: []string{"read"}, AuthStyle: oauth2.AuthStyleInHeader,
	}
	token, err := config.Token(context.Background())
	if err != nil {
		return nil, err
	}
	temporary := path + ".tmp"
	if err := os.WriteFile(temporary, []byte(token.AccessToken), 0o600); err != nil {
		return nil, err
	}
	return token, os.Rename(temporary, path)
}
