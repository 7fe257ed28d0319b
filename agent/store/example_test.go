package store_test

import (
	"fmt"
	"time"

	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/token"
)

// A memory of one's own keeps bytes.
func ExampleEncode() {
	data, err := store.Encode("orders", store.Record{
		Token: token.Token{AccessToken: token.NewSecret("eyJ"), TokenType: "Bearer", Expiry: time.Now().Add(time.Hour)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	back, err := store.Decode("orders", data)
	fmt.Println(back.Token.Name, back.Token.ValidAt(time.Now()), err)

	_, err = store.Decode("invoices", data)
	fmt.Println(err)
	// Output:
	// orders true <nil>
	// it holds the state of token "orders"
}
