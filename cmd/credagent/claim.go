package main

import "github.com/credagent/credagent/agent/config"

// own is a path that only one agent may use.
type own struct{ place, path string }

// ownedAtStart returns what a daemon claims until it ends. The state directory has a trailing slash: the directory
// itself is claimed, not a file in it.
func ownedAtStart(cfg *config.Config) []own {
	var all []own
	if cfg.State != nil && cfg.State.Dir != "" {
		all = append(all, own{"state.dir", cfg.State.Dir + "/"})
	}
	if cfg.Socket != nil {
		all = append(all, own{"socket.path", cfg.Socket.Path})
	}
	if cfg.Identity != nil {
		all = append(all, own{"identity_endpoint.header_file", cfg.Identity.HeaderFile})
	}
	return all
}

// ownedSinks returns what a daemon claims until a reload.
func ownedSinks(cfg *config.Config) []own {
	all := make([]own, 0, len(cfg.Sinks))
	for _, s := range cfg.Sinks {
		if s.IsFile() { // a Secret is not on this host
			all = append(all, own{s.OutputKey(), s.Path})
		}
	}
	return all
}

// claim claims for a daemon what a configuration needs exclusively, all of it or nothing. If another agent has one of
// them, that is a configuration error.
func (r *reloader) claim(cfg *config.Config, wanted []own) error {
	if !r.daemon {
		return nil
	}
	var problems []config.Problem
	var taken []own
	for _, o := range wanted {
		if err := r.shared.Claim(o.path); err != nil {
			problems = append(problems, cfg.Problem(o.place, err.Error()+"; stop one of the two, or give each its own"))
			continue
		}
		taken = append(taken, o)
	}
	if len(problems) == 0 {
		return nil
	}
	r.release(taken)
	return &config.Error{Problems: problems}
}

// reclaim repeats the claims after missing directories were created: before that, a path is only known by its
// spelling.
func (r *reloader) reclaim(cfg *config.Config, claimed []own) error {
	if err := r.claim(cfg, claimed); err != nil {
		return err
	}
	r.release(claimed)
	return nil
}

// release releases claims.
func (r *reloader) release(claimed []own) {
	if !r.daemon {
		return
	}
	for _, o := range claimed {
		r.shared.Release(o.path)
	}
}
