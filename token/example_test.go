package token_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/credagent/credagent/token"
)

func ExampleToken() {
	t := token.Token{
		Name:        "orders",
		AccessToken: token.NewSecret("eyJhbGciOi"),
		TokenType:   "Bearer",
		Expiry:      time.Now().Add(time.Hour),
	}
	fmt.Println(t.AccessToken, t.ValidAt(time.Now()))

	header := http.Header{}
	header.Set("Authorization", t.TokenType+" "+t.AccessToken.Reveal())
	fmt.Println(header.Get("Authorization"))
	// Output:
	// [redacted] true
	// Bearer eyJhbGciOi
}
