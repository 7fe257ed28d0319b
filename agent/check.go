package agent

import (
	"context"

	"github.com/credagent/credagent/agent/config"
)

// Check asks every client's provider whether its configuration is sound and, if load, whether the
// credential could be used. It sends nothing to a server. Its error is a [*config.Error].
func (a *Agent) Check(ctx context.Context, load bool) error {
	return problemsOf(context.Background(), a.askAll(ctx, load))
}

// CheckSoon is [Agent.Check] without loading, for a start: a provider that does not answer while
// waiting lasts holds up nobody but its own client, whose first request comes after its answer.
func (a *Agent) CheckSoon(ctx, waiting context.Context) error {
	return problemsOf(waiting, a.askAll(ctx, false))
}

func (a *Agent) askAll(ctx context.Context, load bool) []<-chan []config.Problem {
	return a.ask(ctx, a.parts.list().clients, a.parts.config(), load)
}

// ask asks the provider of every credential of clients; the answers come in their order.
func (a *Agent) ask(ctx context.Context, clients []*clientPart, cfg *config.Config, load bool) []<-chan []config.Problem {
	var answers []<-chan []config.Problem
	for _, c := range clients {
		for _, check := range c.client.Checks(cfg, load) {
			answer := make(chan []config.Problem, 1)
			a.checks.Go(func() { answer <- check(ctx) })
			answers = append(answers, answer)
		}
	}
	return answers
}

// askOne asks the providers of one client, which is new, and sees whether anything is written over what it
// reads. It is for any goroutine, also while the agent stops.
func (a *Agent) askOne(ctx context.Context, c *clientPart) error {
	files := a.parts.files()
	problems := files.ApartClient(*c.cfg)
	for _, check := range c.client.Checks(files, false) {
		problems = append(problems, check(ctx)...)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errorOf(problems)
}

// sinkApart returns a problem for each file that a sink would be written over, or that its actions depend on
// and that is written. It looks at the files of all clients and sinks: what was seen of them before may be of
// files that were replaced since, as those of sinks are by each token.
func (a *Agent) sinkApart(s config.Sink) []config.Problem {
	problems := a.parts.files().ApartSink(s)
	alone := *a.parts.settings()
	alone.Socket, alone.Identity, alone.Sinks = nil, nil, []config.Sink{s}
	for _, c := range a.parts.running() {
		problems = append(problems, c.client.Overwritten(&alone)...)
	}
	return problems
}

// problemsOf joins the answers that come while waiting lasts.
func problemsOf(waiting context.Context, answers []<-chan []config.Problem) error {
	var problems []config.Problem
	for _, answer := range answers {
		select {
		case found := <-answer:
			problems = append(problems, found...)
			continue
		case <-waiting.Done():
		}
		select { // those that are there are not lost on one that is not
		case found := <-answer:
			problems = append(problems, found...)
		default:
		}
	}
	return errorOf(problems)
}

// errorOf is the error of problems; nil without any.
func errorOf(problems []config.Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &config.Error{Problems: problems}
}
