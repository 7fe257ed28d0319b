package config_test

import (
	"fmt"

	"github.com/credagent/credagent/agent/config"
)

func ExampleCompleteClient() {
	c, err := config.CompleteClient(config.Client{
		Name: "payments", ClientID: "1234", TokenURL: "https://sts.example.com/token",
		Credential: config.Credential{Provider: "secretcred", Config: []byte(`{"secret_file":"/run/secret"}`)},
	})
	fmt.Println(c.RequestTimeout, err)

	_, err = config.CompleteClient(config.Client{Name: "payments", TokenURL: "https://sts.example.com/token", ClientID: "1234"})
	fmt.Println(err)
	// Output:
	// 10s <nil>
	// clients.payments: missing key "credential"
}
