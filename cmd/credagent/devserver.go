package main

import (
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/demo"
	"github.com/credagent/credagent/internal/devserver"
)

const devserverExample = `  credagent devserver --ttl 10s --fault 'ok*3' --fault 'throttle=7*2' > client.json &
  until [ -s client.json ]; do sleep 0.1; done
  credagent once -c "$(jq -r .config client.json)"
  curl -d grant_type=client_credentials -d scope=demo.read -d client_id=demo \
    --data-urlencode "client_secret@$(jq -r .secret_file client.json)" "$(jq -r .token_url client.json)"
  curl -X POST "$(jq -r .control client.json)/faults?fault=outage*3"
  curl "$(jq -r .control client.json)/faults"
  curl -X DELETE "$(jq -r .control client.json)/faults"
  curl -X POST "$(jq -r .control client.json)/revoke"
  curl -i -H "Authorization: Bearer $TOKEN" "$(jq -r .resource client.json)"`

func newDevserver() *cobra.Command {
	c := &cobra.Command{
		Use:   "devserver",
		Short: "Run the demo's authorization server alone",
		Long: `devserver is an authorization server to try an application against: with tokens that live for
seconds, throttling, outages, slow and broken answers. It prints one line of JSON with its address
and a ready-made client, whose secret, certificate and configuration are in files that only you
can read and that are removed when it stops; then a line on standard error for every token request.

A fault is NAME[=ARG][*COUNT]. COUNT is the number of token requests that it affects. Without one it
affects all of them and later faults never happen, so give ok a COUNT. Faults happen one after another.
At the URL that the JSON calls control, POST CONTROL/faults?fault=... injects more while it runs, GET
CONTROL/faults lists the pending ones, and DELETE CONTROL/faults clears them.

The URL that the JSON calls resource accepts the server's tokens. A POST to CONTROL/revoke makes it
reject all existing ones with a claims challenge (continuous access evaluation), and accept only
tokens that are requested with the claims of the challenge.

With --manner it imitates a known server: its paths, its requirements, and its errors. The manners:

` + mannerHelp() + `

The faults:

` + faultHelp(),
		Example: devserverExample,
		Args:    noArguments,
	}
	listen := c.Flags().String("listen", "127.0.0.1:0", "the `address` to listen on; port 0 is a free one")
	ttl := c.Flags().Duration("ttl", 30*time.Second, "the lifetime of a token, at least 1s")
	tls := c.Flags().Bool("tls", false, "serve HTTPS, with its own CA, and also accept the client by its certificate")
	manner := c.Flags().String("manner", "", "imitate the known `server`, see above")
	faults := c.Flags().StringArray("fault", nil, "a fault to inject from the start, see above; can be repeated")
	completeFlag(c, "fault", words(faultNames()...))
	completeFlag(c, "manner", words(mannerNames()...))
	c.RunE = func(c *cobra.Command, _ []string) error {
		parsed, err := parseFaults(*faults)
		if err == nil {
			err = checkDevserver(*ttl, *manner)
		}
		if err != nil {
			return &usageError{c.CommandPath(), err}
		}
		defer surviveBrokenPipe()()
		return demo.Serve(c.Context(), demo.ServeOptions{
			Listen: *listen, TTL: *ttl, TLS: *tls, Faults: parsed, Manner: *manner,
			Out: c.OutOrStdout(),
			Log: slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)),
		})
	}
	return c
}

func checkDevserver(ttl time.Duration, manner string) error {
	if ttl < time.Second {
		return fmt.Errorf("invalid argument %q for --ttl: a token lives for a second at least", ttl)
	}
	if _, unknown := devserver.ParseManner(manner); unknown != nil {
		return config.Suggest(fmt.Errorf("invalid argument %q for --manner: %w", manner, unknown), manner, mannerNames())
	}
	return nil
}

func parseFaults(texts []string) ([]devserver.Fault, error) {
	var faults []devserver.Fault
	for _, text := range texts {
		fault, err := devserver.ParseFault(text)
		if err != nil {
			name, _, _ := strings.Cut(text, "=")
			name, _, _ = strings.Cut(name, "*")
			return nil, config.Suggest(err, name, kindNames())
		}
		faults = append(faults, fault)
	}
	return faults, nil
}

// mannerHelp has a line for every manner.
func mannerHelp() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, m := range devserver.Manners() {
		fmt.Fprintf(table, "  %s\t%s\n", m.Name, m.Help)
	}
	_ = table.Flush() // to a strings.Builder
	return strings.TrimSuffix(text.String(), "\n")
}

// faultHelp has a line for every fault.
func faultHelp() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, f := range devserver.Faults() {
		name := f.Name
		if f.Arg != "" {
			name += "=" + f.Arg
		}
		fmt.Fprintf(table, "  %s\t%s\n", name, f.Help)
	}
	_ = table.Flush() // to a strings.Builder
	return strings.TrimSuffix(text.String(), "\n")
}
