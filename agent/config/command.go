package config

// ForCommand returns the variables that credagent exec gives its command: those of every env sink. It
// refuses, with an [*Error], a name that two sinks set differently, and a configuration from which no command could
// get a token.
func (c *Config) ForCommand() ([]Variable, error) {
	all := append([]Variable(nil), c.Variables...)
	known := map[string]Variable{}
	var problems []Problem
	for _, s := range c.Sinks {
		for _, v := range s.Variables {
			other, taken := known[v.Name]
			if !taken {
				known[v.Name] = v
				all = append(all, v)
			} else if other != v {
				problem := c.Problem(join(join(s.Place, "variables"), v.Name), "another env sink gives it another value, and a command has only one")
				problem.Hint = "choose with --token, or rename one of the two"
				problems = append(problems, problem)
			}
		}
	}
	if len(all) == 0 && len(c.Sinks) == 0 && c.Socket == nil && c.Identity == nil && c.Sidecar == nil {
		problem := c.Problem("sinks", "no sink shows only the tokens chosen, so the command could not get one")
		problem.Hint = "add a sink of type env with the variables that the command reads"
		problems = append(problems, problem)
	}
	if len(problems) > 0 {
		return nil, &Error{Problems: problems}
	}
	return all, nil
}
