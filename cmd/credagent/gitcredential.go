package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/sink"
)

const (
	// gitUser is the user name if git has none. Servers that accept a token as a password require one but ignore it,
	// or require this one.
	gitUser = "oauth2"
	// maxGitInput limits the input from git, in bytes.
	maxGitInput = 64 << 10
)

// gitRequest is git's description of what it wants to log in to (git-credential(1)).
type gitRequest struct {
	protocol string
	host     string
	username string
	authtype bool // git can send other schemes than Basic
}

// gitCredential is a git credential helper. Git does not store or erase the token.
func gitCredential(c *cobra.Command, agent agentFlags, args []string) error {
	operation := "" // by hand: nothing is read
	if len(args) == 2 {
		operation = args[1]
	}
	var request gitRequest
	if operation != "" {
		var err error
		request, err = interruptibly(c.Context(), func() (gitRequest, error) {
			return readGitRequest(io.LimitReader(c.InOrStdin(), maxGitInput))
		})
		if err != nil {
			return fmt.Errorf("reading what git asks for: %w", err)
		}
	}
	if operation != "" && operation != "get" {
		return nil // git has operations other than store and erase, and may add more
	}
	if err := request.check(); err != nil {
		return &statedError{exitUsage, err}
	}
	got, err := askToken(c.Context(), agent, args[0])
	if err != nil {
		return err
	}
	accessToken, err := got.render(sink.FormatRaw)
	if err != nil {
		return err
	}
	return writeGitCredential(c.OutOrStdout(), request, string(accessToken), got.Expiry.Unix())
}

func readGitRequest(in io.Reader) (gitRequest, error) {
	var r gitRequest
	lines := bufio.NewScanner(in)
	for lines.Scan() && lines.Text() != "" {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch key {
		case "protocol":
			r.protocol = value
		case "host":
			r.host = value
		case "username":
			r.username = value
		case "capability[]":
			r.authtype = r.authtype || value == "authtype"
		}
	}
	return r, lines.Err()
}

// check refuses a request that would send the token over the network unencrypted.
func (r gitRequest) check() error {
	if r.protocol != "http" {
		return nil
	}
	host := r.host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if address, err := netip.ParseAddr(strings.Trim(host, "[]")); host == "localhost" || err == nil && address.IsLoopback() {
		return nil
	}
	return errors.New("git asks for a token to send it over plain http: use https")
}

func writeGitCredential(out io.Writer, r gitRequest, accessToken string, expiresOn int64) error {
	lines := []string{"username=" + gitUser, "password=" + accessToken}
	if r.username != "" {
		lines[0] = "username=" + r.username
	}
	if r.authtype {
		lines = []string{"capability[]=authtype", "authtype=Bearer", "credential=" + accessToken, "ephemeral=1"}
	}
	_, err := fmt.Fprintf(out, "%s\npassword_expiry_utc=%d\n", strings.Join(lines, "\n"), expiresOn)
	return err
}
