package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/status"
)

// watchTime is between two looks of --watch.
const watchTime = time.Second

func newStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the running agent is doing",
		Long: `status asks the running agent, over the socket of the configuration or else at its listen address,
for each token's expiry, next request and last outcome, each client's gate and credential, and each
sink's state.`,
		Example: "  credagent status --watch",
		Args:    noArguments,
	}
	agent := addAgentFlags(c)
	asJSON := c.Flags().Bool("json", false, "print the answer as JSON")
	watch := c.Flags().Bool("watch", false, "print it again every second")
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := agent.find()
		if err != nil {
			return err
		}
		for {
			if err := showStatus(c.Context(), c.OutOrStdout(), at, *asJSON); err != nil || !*watch {
				return err
			}
			select {
			case <-c.Context().Done():
				return nil
			case <-time.After(watchTime):
			}
		}
	}
	return c
}

func showStatus(ctx context.Context, out io.Writer, at agentAt, asJSON bool) error {
	s, err := askStatus(ctx, at)
	if err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(s)
	}
	return writeStatus(out, s)
}

func writeStatus(out io.Writer, s status.Status) error {
	fmt.Fprintf(out, "credagent %s, %s: %s\n\n", s.Version, s.Source, summary(s))
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TOKEN\tCLIENT\tVALID\tEXPIRES IN\tNEXT REQUEST\tLAST OUTCOME\tFAILURES")
	for _, t := range s.Tokens {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", t.Name, t.Client, yesNo(t.Valid),
			until(s.Now, t.Expiry), until(s.Now, t.RefreshAt), dash(t.LastOutcome), t.ConsecutiveFailures)
	}
	fmt.Fprintln(table, "\nCLIENT\tBLOCKED FOR\tBACKOFF\tCREDENTIAL\tIN USE\tPROVIDER\tNOT AFTER")
	for _, c := range s.Clients {
		for _, credential := range c.Credentials {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, until(s.Now, c.Gate.BlockedUntil), until(s.Now, c.Gate.RetryAt),
				credential.Name, yesNo(credential.InUse), credential.Provider, day(credential.NotAfter))
		}
	}
	fmt.Fprintln(table, "\nSINK\tHOLDS\tLAST WRITTEN")
	for _, k := range s.Sinks {
		fmt.Fprintf(table, "%s\t%s\t%s\n", k.Path, yesNo(k.Holds), ago(s.Now, k.LastSuccess))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return writeProblems(out, s)
}

func writeProblems(out io.Writer, s status.Status) error {
	var lines []string
	if r := s.Reload; r != nil && !r.Successful {
		lines = append(lines, "the configuration was not reloaded "+ago(s.Now, &r.At)+", the running one stays: "+r.Error)
	}
	for _, t := range s.Tokens {
		if t.LastError != "" {
			lines = append(lines, fmt.Sprintf("token %s: %s", t.Name, t.LastError))
		}
		if t.Advice != "" {
			lines = append(lines, "    hint: "+t.Advice)
		}
	}
	for _, c := range s.Clients {
		for _, credential := range c.Credentials {
			if credential.Problem != "" {
				lines = append(lines, fmt.Sprintf("client %s, %s credential: %s", c.Name, credential.Name, credential.Problem))
			}
		}
	}
	for _, k := range s.Sinks {
		if k.LastError != "" {
			lines = append(lines, k.LastError)
		}
		if k.OnChange != nil && k.OnChange.LastError != "" {
			lines = append(lines, fmt.Sprintf("on_change of %s: %s: %s", k.Path, k.OnChange.LastAction, k.OnChange.LastError))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "\n%s\n", strings.Join(lines, "\n"))
	return err
}

// summary is the state in a few words.
func summary(s status.Status) string {
	valid, next := 0, time.Time{}
	for _, t := range s.Tokens {
		if t.Valid {
			valid++
		}
		if t.RefreshAt != nil && (next.IsZero() || t.RefreshAt.Before(next)) {
			next = *t.RefreshAt
		}
	}
	text := fmt.Sprintf("%d of %d tokens valid", valid, len(s.Tokens))
	if !next.IsZero() {
		text += ", next request in " + until(s.Now, &next)
	}
	if !s.Ready {
		text += ", not ready: " + strings.Join(s.NotReady[:min(3, len(s.NotReady))], ", ")
	}
	return text
}

func until(now time.Time, t *time.Time) string {
	if t == nil || !t.After(now) {
		return "-"
	}
	return t.Sub(now).Round(time.Second).String()
}

func ago(now time.Time, t *time.Time) string {
	if t == nil {
		return "never"
	}
	return now.Sub(*t).Round(time.Second).String() + " ago"
}

func day(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format(time.DateOnly)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
