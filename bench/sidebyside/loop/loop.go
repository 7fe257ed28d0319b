// Package loop is what a careful programmer writes around a library that keeps tokens in memory, so
// that programs which read files have them too: every so often it asks the library for each token,
// and replaces the token's file atomically when the token has changed.
//
// The library decides when to send a request, as the libraries' documents advise. The loop honours a Retry-After
// wherever the library exposes one. Caveat: it is compared with credagent and shares no code with it.
package loop

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Library gets tokens. One is shared by all of a program's tokens, so that its cache is too.
type Library interface {
	// Token returns the access token for a scope, from the library's cache or from the server.
	Token(ctx context.Context, scope string) (string, error)
	// Answer returns the server's answer in an error of Token; nil if there is none.
	Answer(err error) *http.Response
}

// Settings configures how a library reaches the server, and as which client.
type Settings struct {
	Authority string // https://host
	Tenant    string
	ClientID  string
	Secret    string
}

// file is a token's scope and the file that it is kept in.
type file struct {
	scope string
	path  string
	holds string // the token that was written last
}

// keeper keeps tokens in files.
type keeper struct {
	library Library
	poll    time.Duration
	log     *slog.Logger
	files   []file
}

// Main is the whole main function of a program that keeps tokens in files with a library.
func Main(library func(Settings) (Library, error)) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, library); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run reads the command line, FLAGS SCOPE=FILE..., and keeps the tokens until it is asked to stop.
func run(ctx context.Context, library func(Settings) (Library, error)) error {
	var s Settings
	flag.StringVar(&s.Authority, "authority", "https://login.microsoftonline.com", "the authorization server")
	flag.StringVar(&s.Tenant, "tenant", "", "the directory")
	flag.StringVar(&s.ClientID, "client", "", "the client_id")
	secretFile := flag.String("secret-file", "", "the file with the client secret")
	poll := flag.Duration("poll", 10*time.Second, "how often to ask for each token")
	flag.Parse()
	secret, err := os.ReadFile(*secretFile)
	if err != nil {
		return err
	}
	s.Secret = string(secret)
	k := keeper{poll: *poll, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if k.library, err = library(s); err != nil {
		return err
	}
	for _, arg := range flag.Args() {
		scope, path, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("reading the arguments: %q is not SCOPE=FILE", arg)
		}
		k.files = append(k.files, file{scope: scope, path: path})
	}
	k.keep(ctx)
	return nil
}

func (k *keeper) keep(ctx context.Context) {
	for {
		wait := max(k.round(ctx), k.poll)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// round asks for every token once. It ends when the server asks to wait, and returns the wait, because all tokens
// belong to one client.
func (k *keeper) round(ctx context.Context) (wait time.Duration) {
	for i := range k.files {
		err := k.refresh(ctx, &k.files[i])
		if err == nil || ctx.Err() != nil {
			continue
		}
		k.log.Warn("no new token", "scope", k.files[i].scope, "error", err)
		//nolint:bodyclose // the library has read it to its end
		if wait := retryAfter(k.library.Answer(err)); wait > 0 {
			return wait
		}
	}
	return 0
}

func (k *keeper) refresh(ctx context.Context, f *file) error {
	token, err := k.library.Token(ctx, f.scope)
	if err != nil || token == f.holds {
		return err
	}
	if err := replace(f.path, token); err != nil {
		return err
	}
	f.holds = token
	k.log.Info("token written", "scope", f.scope)
	return nil
}

// retryAfter reads the Retry-After of an answer, in seconds, as Microsoft's servers send it.
func retryAfter(answer *http.Response) time.Duration {
	if answer == nil {
		return 0
	}
	seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// replace writes a file so that a reader finds the old or the new content, even after a crash.
func replace(path, content string) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".token-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // which is gone once it is renamed
	_, err = temporary.WriteString(content)
	if err == nil {
		err = temporary.Sync()
	}
	if err := errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
