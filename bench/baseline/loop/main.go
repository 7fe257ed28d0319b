// Command loop is the smallest program that does credagent's work for many tokens: a signature, a
// request and an atomic write for each, a client at a time. Benchmarks run it beside credagent.
package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// work is what there is to do.
type work struct {
	tokenURL   string
	dir        string // where the files are written
	clients    int
	tokens     int
	pace       int // requests of a client in a second; 0 for as many as it can
	key        *rsa.PrivateKey
	thumbprint string
	secret     string // authenticates where there is no key
}

func main() {
	var w work
	var pair, secretFile string
	flag.StringVar(&w.tokenURL, "token-url", "", "the token endpoint")
	flag.StringVar(&w.dir, "dir", "", "where the tokens are written")
	flag.IntVar(&w.clients, "clients", 1, "how many clients there are: app0, app1…")
	flag.IntVar(&w.tokens, "tokens", 1, "how many tokens there are")
	flag.IntVar(&w.pace, "pace", 0, "how many requests a client sends in a second; 0 for as many as it can")
	flag.StringVar(&pair, "pair", "", "a PEM file with the certificate and the RSA key of every client")
	flag.StringVar(&secretFile, "secret", "", "the file of every client's secret")
	flag.Parse()
	err := w.load(pair, secretFile)
	if err == nil {
		err = w.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (w *work) load(pair, secretFile string) error {
	if pair == "" {
		content, err := os.ReadFile(secretFile)
		w.secret = string(content)
		return err
	}
	rest, err := os.ReadFile(pair)
	if err != nil {
		return err
	}
	for block := (*pem.Block)(nil); ; {
		if block, rest = pem.Decode(rest); block == nil {
			return nil
		}
		if block.Type == "CERTIFICATE" {
			sum := sha256.Sum256(block.Bytes)
			w.thumbprint = base64.RawURLEncoding.EncodeToString(sum[:])
			continue
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return err
		}
		w.key, _ = key.(*rsa.PrivateKey)
	}
}

// run works for all clients at once, each one token after another.
func (w *work) run() error {
	errs := make([]error, w.clients)
	var running sync.WaitGroup
	for c := range w.clients {
		running.Go(func() { errs[c] = w.serve(c) })
	}
	running.Wait()
	return errors.Join(errs...)
}

func (w *work) serve(client int) error {
	connections := &http.Client{Transport: &http.Transport{}}
	defer connections.CloseIdleConnections()
	var sent []time.Time
	for token := client; token < w.tokens; token += w.clients {
		if n := len(sent); w.pace > 0 && n >= w.pace {
			<-time.After(time.Until(sent[n-w.pace].Add(time.Second)))
		}
		sent = append(sent, time.Now())
		content, err := w.request(connections, fmt.Sprintf("app%d", client))
		if err == nil {
			err = w.write(fmt.Sprintf("t%d", token), content)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *work) request(connections *http.Client, client string) (token string, err error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "scope": {"read"}}
	if w.key != nil {
		assertion, err := w.assertion(client)
		if err != nil {
			return "", err
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	}
	request, err := http.NewRequest(http.MethodPost, w.tokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if w.key == nil {
		request.SetBasicAuth(client, w.secret)
	}
	response, err := connections.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err == nil && (response.StatusCode != http.StatusOK || answer.AccessToken == "") {
		err = fmt.Errorf("requesting a token: %s", response.Status)
	}
	return answer.AccessToken, err
}

// assertion authenticates a client by a signature (RFC 7523, 2.2).
func (w *work) assertion(client string) (string, error) {
	now := time.Now().Unix()
	header := fmt.Sprintf(`{"alg":"PS256","typ":"JWT","x5t#S256":%q}`, w.thumbprint)
	claims := fmt.Sprintf(`{"iss":%q,"sub":%q,"aud":%q,"jti":%q,"iat":%d,"nbf":%d,"exp":%d}`,
		client, client, w.tokenURL, rand.Text(), now, now, now+300)
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	digest := sha256.Sum256([]byte(signed))
	options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	signature, err := w.key.Sign(rand.Reader, digest[:], options)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), err
}

// write puts the content where a crash leaves the whole old or the whole new one.
func (w *work) write(name, content string) error {
	temporary := filepath.Join(w.dir, "."+name)
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.WriteString(content); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temporary, filepath.Join(w.dir, name)); err != nil {
		return err
	}
	dir, err := os.Open(w.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
