package devserver

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
)

// NewServiceAccount makes a client that signs assertions as grants, as a service account of Google's does,
// and its key file, in the form in which Google hands one out. The tokenURI is whom its assertions are for.
func NewServiceAccount(email, tokenURI string) (Client, []byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Client{}, nil, fmt.Errorf("making a service account's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Client{}, nil, fmt.Errorf("making a service account's key: %w", err)
	}
	const keyID = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"
	file, err := json.MarshalIndent(map[string]string{
		"type": "service_account", "project_id": "project", "private_key_id": keyID,
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": email, "client_id": "100000000000000000001",
		"auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": tokenURI, "universe_domain": "googleapis.com",
	}, "", "  ")
	return Client{ID: email, PublicKeys: map[string]crypto.PublicKey{keyID: key.Public()}}, file, err
}
