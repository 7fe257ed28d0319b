// Command app is the application of the cluster tests, and the pause container of its pods. It reads
// its token as an old program would, without knowing credagent, and tells on standard output what it saw.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	headerFile = "/run/credagent/tokens/api.header"
	socketFile = "/run/credagent/credagent.sock"
	interval   = 20 * time.Millisecond
)

// report is a line of the output.
type report struct {
	Event  string
	At     time.Time
	UID    int
	Groups []int
	Root   string // why the root file system cannot be written to
	Files  string // of the volume, and their modes
	Token  string // the SHA-256 of the token, in hex
	Reads  int
	Bad    []string // reads that saw no good header
	Tokens int      // how many different ones it saw
	Status int      // of the agent's answer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	role := "pause"
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	switch role {
	case "pause":
		<-ctx.Done()
	case "bare": // an application that needs no token
		say(report{Event: "started"})
		<-ctx.Done()
	case "app":
		read(ctx)
	case "work": // a job, which is done when it has seen its token replaced twice
		ctx, done := context.WithCancel(ctx)
		defer done()
		tokens := 0
		watch(ctx, func(seen int) {
			if tokens = seen; seen >= 3 {
				done()
			}
		})
		if tokens < 3 {
			os.Exit(1)
		}
	case "ask":
		ask(ctx)
	}
}

func say(r report) {
	r.At = time.Now()
	line, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func read(ctx context.Context) { watch(ctx, func(int) {}) }

// watch opens the file again and again, as a program does that reads it for each request.
func watch(ctx context.Context, seen func(tokens int)) {
	start := report{Event: "started", UID: os.Getuid(), Root: "it can be written to"}
	start.Groups, _ = os.Getgroups()
	if err := os.WriteFile("/written", nil, 0o600); err != nil {
		start.Root = err.Error()
	}
	filepath.Walk("/run/credagent", func(path string, info os.FileInfo, err error) error {
		if err == nil {
			start.Files += fmt.Sprintf("%s %s\n", info.Mode(), path)
		}
		return nil
	})
	token, problem := header()
	start.Token = token
	if problem != "" {
		start.Bad = []string{problem}
	}
	say(start)
	end := report{Event: "stopped"}
	all := map[string]bool{}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			token, problem := header()
			end.Reads++
			if problem != "" {
				end.Bad = append(end.Bad, problem)
				continue
			}
			if !all[token] {
				all[token] = true
				say(report{Event: "token", Token: token})
			}
			seen(len(all))
		}
	}
	end.Tokens = len(all)
	say(end)
}

// header reads the file and says what is wrong with it.
func header() (token, problem string) {
	data, err := os.ReadFile(headerFile)
	if err != nil {
		return "", err.Error()
	}
	value, isHeader := strings.CutPrefix(string(data), "Authorization: Bearer ")
	value, isLine := strings.CutSuffix(value, "\n")
	if !isHeader || !isLine || value == "" {
		return "", fmt.Sprintf("%d bytes that are no header", len(data))
	}
	return hash(value), ""
}

func hash(token string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(token))) }

// ask gets the token over the agent's socket.
func ask(ctx context.Context) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socketFile)
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://credagent/v1/tokens/api", nil)
	if err != nil {
		panic(err)
	}
	answer := report{Event: "answered", UID: os.Getuid()}
	response, err := client.Do(request)
	if err != nil {
		answer.Bad = []string{err.Error()}
		say(answer)
		return
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	var token struct {
		AccessToken string `json:"access_token"`
	}
	_ = json.Unmarshal(body, &token)
	answer.Status, answer.Token = response.StatusCode, hash(token.AccessToken)
	say(answer)
}
