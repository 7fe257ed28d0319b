package main

import "fmt"

// flow is the way of a credential and of a token.
func flow() string {
	c := start(330, "How a token gets to an application",
		"The agent decides when a token is due and asks its credential provider, a process of its own. The provider reads the credential and sends the request to the authorization server. The agent writes the token to a file in one step, and the application reads that file.")
	c.rectangle("frame", rectangle{16, 16, 656, 298})
	c.text("small soft", "start", point{30, 38}, "one host, or one pod")
	status := rectangle{30, 66, 150, 78}
	agent := rectangle{236, 56, 184, 98}
	provider := rectangle{476, 56, 184, 98}
	server := rectangle{738, 56, 128, 98}
	application := rectangle{30, 214, 150, 78}
	file := rectangle{236, 214, 184, 78}
	credential := rectangle{476, 214, 184, 78}
	c.box("box", status, "Status", "probes, metrics,", "a page for people")
	c.box("agent", agent, "Agent", "decides what is asked,", "when, and how often;", "never sees the credential")
	c.box("agent", provider, "Credential provider", "a process of its own:", "reads the credential,", "sends the request")
	c.box("box", server, "Authorization", "server")
	c.box("box", application, "Application", "unchanged, runs as", "another user")
	c.box("good", file, "Token file", "`/run/credagent/`", "always a good token")
	c.box("wait", credential, "Credential", "secret, key, certificate", "or signed assertion")
	c.arrow(agent.left(), status.right())
	c.arrow(agent.right().moved(0, -14), provider.left().moved(0, -14))
	c.text("small soft", "middle", point{448, 82}, "ask")
	c.arrow(provider.left().moved(0, 14), agent.right().moved(0, 14))
	c.text("small soft", "middle", point{448, 139}, "answer")
	c.arrow(provider.right().moved(0, -14), server.left().moved(0, -14))
	c.text("small soft", "middle", point{705, 82}, "request")
	c.arrow(server.left().moved(0, 14), provider.right().moved(0, 14))
	c.text("small soft", "middle", server.bottom().moved(0, 22), "a token, or")
	c.text("mono", "middle", server.bottom().moved(0, 41), "Retry-After")
	c.arrow(agent.bottom(), file.top())
	c.text("small soft", "start", point{338, 189}, "replaced in one step")
	c.arrow(credential.top(), provider.bottom())
	c.text("small soft", "start", point{578, 189}, "read")
	c.arrow(file.left(), application.right())
	c.text("small soft", "middle", point{208, 244}, "read")
	return c.end()
}

// life is one token, the wait that the server asks for when it is due, and its successor.
func life() string {
	c := start(330, "The life of a token, with a Retry-After in it",
		"A token of one hour is due after about half of its life. The request is answered with 429 and Retry-After: 600, so nothing is sent for ten minutes, while the file holds the first token. Then one request brings the second token, and the file is replaced in one step.")
	at := func(minute int) int { return 150 + minute*6 }
	const top, requests, first, second, file, axis = 34, 74, 116, 164, 212, 270
	for minute := 0; minute <= 110; minute += 10 {
		c.line("thin", point{at(minute), axis}, point{at(minute), axis + 6})
		c.text("small soft", "middle", point{at(minute), axis + 24}, fmt.Sprint(minute))
	}
	c.line("thin", point{at(0), axis}, point{at(115), axis})
	c.text("small soft", "middle", point{at(57), axis + 46}, "minutes")
	c.text("strong", "end", point{134, requests + 5}, "requests")
	c.rectangle("wait", rectangle{at(29), requests - 16, at(39) - at(29), axis - requests + 16})
	c.text("mono", "middle", point{at(34), top - 6}, "429, Retry-After: 600")
	c.text("small soft", "middle", point{at(34), top + 14}, "nothing is sent")
	for _, bar := range []struct {
		class       string
		from, to, y int
		row, what   string
	}{
		{class: "good", from: 0, to: 60, y: first, row: "first token", what: "good for 60 minutes"},
		{class: "good", from: 39, to: 99, y: second, row: "second token", what: "good for 60 minutes"},
		{class: "agent", from: 0, to: 39, y: file, row: "in the file", what: "the first token"},
		{class: "agent", from: 39, to: 115, y: file, what: "the second token, until its successor replaces it"},
	} {
		c.text("strong", "end", point{134, bar.y + 21}, bar.row)
		c.rectangle(bar.class, rectangle{at(bar.from), bar.y, at(bar.to) - at(bar.from), 32})
		c.text("small", "start", point{at(bar.from) + 12, bar.y + 21}, bar.what)
	}
	for _, minute := range []int{0, 29, 39} {
		fmt.Fprintf(c, `<circle class="head" cx="%d" cy="%d" r="6"/>`+"\n", at(minute), requests)
	}
	c.text("small", "end", point{at(29) - 12, requests + 5}, "due, at half of its life")
	c.text("small", "start", point{at(39) + 12, requests + 5}, "one request, and the file is replaced in one step")
	return c.end()
}

// pod is what deploy/k8s/sidecar makes.
func pod() string {
	c := start(400, "A pod with credagent as its sidecar",
		"An init container gets the first token. A native sidecar keeps it fresh in a volume in memory that the application mounts read-only. The certificate and the state are mounted into credagent's containers alone.")
	c.rectangle("frame", rectangle{16, 16, 676, 368})
	c.text("small soft", "start", point{30, 374}, "pod")
	once := rectangle{36, 60, 180, 98}
	sidecar := rectangle{266, 60, 190, 98}
	app := rectangle{506, 60, 166, 98}
	secrets := rectangle{36, 246, 180, 98}
	state := rectangle{266, 246, 190, 98}
	tokens := rectangle{506, 246, 166, 98}
	server := rectangle{740, 60, 128, 98}
	c.box("agent", once, "1. credagent-once", "init container: gets the", "first token, writes file", "and state, then ends")
	c.box("agent", sidecar, "2. credagent", "native sidecar: finds", "token and waits in the", "state, keeps it fresh")
	c.box("box", app, "3. Application", "starts when the token", "is there; has no secret")
	c.box("box", server, "Authorization", "server")
	c.box("wait", secrets, "Secrets", "certificate and key,", "the key of the state")
	c.box("box", state, "State", "encrypted, in memory:", "outlives a container,", "not the pod")
	c.box("good", tokens, "Token", "`/run/credagent`", "in memory, read-only", "for the application")
	c.arrow(once.right(), sidecar.left())
	c.arrow(sidecar.right(), app.left())
	c.line("line", once.top(), point{126, 38})
	c.line("line", sidecar.top(), point{361, 38})
	c.arrow(point{126, 38}, point{804, 38}, server.top())
	c.arrow(secrets.top(), once.bottom())
	c.arrow(secrets.top().moved(50, 0), sidecar.bottom().moved(-70, 0))
	c.arrow(state.top(), sidecar.bottom())
	c.arrow(sidecar.bottom(), state.top())
	c.arrow(sidecar.bottom().moved(60, 0), tokens.top().moved(-50, 0))
	c.arrow(tokens.top(), app.bottom())
	c.text("small soft", "start", point{599, 208}, "reads")
	c.text("small soft", "end", point{472, 220}, "writes")
	for i, line := range []string{"asked by", "credagent", "alone"} {
		c.text("small soft", "middle", server.bottom().moved(0, 22+18*i), line)
	}
	return c.end()
}

// which asks what a program can do, and says what to configure for it.
func which() string {
	questions := []struct{ question, detail, answer, how string }{
		{"Does it end before its token would?", "a job, an init container, a script of cron", "credagent once", "writes the files, then exits"},
		{"Does it use an Azure SDK?", "or the managed identity of App Service", "identity_endpoint", "nothing to change in the program"},
		{"Is it kubectl, git or Envoy?", "or does it run a command for its credential", "credagent token", "or the formats exec_credential, envoy_sds"},
		{"Can it read its token from a file?", "each time, or when told to", "sinks: type file", "raw, JSON, a header, your own template"},
		{"Does it read its environment, once?", "at its start, as old programs do", "credagent exec -- PROGRAM", "or an env file and on_change to restart it"},
		{"Can you change its code a little?", "it then asks for each call anew", "socket", "HTTP on a unix socket; no file at all"},
	}
	const step, height = 84, 60
	c := start(24+step*len(questions), "Which way should my application get its token?",
		"Six questions in their order, each with what to use when the answer is yes.")
	for i, q := range questions {
		question := rectangle{24, 24 + i*step, 390, height}
		answer := rectangle{500, 24 + i*step, 356, height}
		c.box("box", question, q.question, q.detail)
		c.box("good", answer, q.answer, q.how)
		c.arrow(question.right(), answer.left())
		c.text("small soft", "middle", point{452, question.y + 23}, "yes")
		if i < len(questions)-1 {
			c.arrow(question.bottom(), question.bottom().moved(0, step-height))
			c.text("small soft", "start", question.bottom().moved(12, 17), "no")
		}
	}
	return c.end()
}
