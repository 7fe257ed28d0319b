package kubesecret

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/credagent/credagent/internal/kubeapi"
	"github.com/credagent/credagent/internal/logkey"
)

const (
	// mostByName is how many Secrets of a namespace have a stream each, by name, which needs rights on these Secrets
	// only. More share one stream by label, which needs the right on all Secrets of the namespace.
	mostByName = 4
	// settleTime is how long a new stream may take to report every existing Secret.
	settleTime = 10 * time.Second
	// readEvery is how often a Secret is read while no watch covers it.
	readEvery = 10 * time.Minute
	// askAgain is how long to wait before a forbidden watch is tried again.
	askAgain = 10 * time.Minute

	shortestPause = time.Second // between two streams
	longestPause  = time.Minute
)

// Cluster is what the Secrets of one API server share: the connection, its waits, and the watch. The watch covers only
// metadata: of each Secret by name if a namespace has few, otherwise of all with [ManagedLabel]. The first
// [Secret.Untouched] starts it.
type Cluster struct {
	api *kubeapi.Client
	log *slog.Logger

	ctx     context.Context // ends with Close
	end     context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	spaces map[string]*space // by namespace; guarded by mu, with all that is in them
}

// space is the Secrets of one namespace.
type space struct {
	open    map[string]int      // how many sinks each Secret has: more than one during a reload
	streams map[selector]*watch // those that run
}

// selector is which Secrets a stream reports; the zero value is all with our label.
type selector struct{ name string }

// watch is one stream, and what it reported.
type watch struct {
	cancel    context.CancelFunc
	up        bool      // it is open
	since     time.Time // when it began to report everything
	forbidden bool
	versions  map[string]string // by name; "" of a Secret that was deleted
}

// NewCluster returns the Secrets of the API server of api. It starts nothing.
func NewCluster(api *kubeapi.Client, log *slog.Logger) *Cluster {
	ctx, end := context.WithCancel(context.Background())
	return &Cluster{api: api, log: log, ctx: ctx, end: end, spaces: map[string]*space{}}
}

// Close ends every stream and every request.
func (c *Cluster) Close() {
	c.mu.Lock()
	c.end() // after which no stream begins
	c.mu.Unlock()
	c.running.Wait()
	c.api.Close()
}

func (c *Cluster) add(s *Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.spaces[s.o.Namespace]
	if in == nil {
		in = &space{open: map[string]int{}, streams: map[selector]*watch{}}
		c.spaces[s.o.Namespace] = in
	}
	in.open[s.o.Name]++
}

func (c *Cluster) remove(s *Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.spaces[s.o.Namespace]
	if in.open[s.o.Name]--; in.open[s.o.Name] > 0 {
		return
	}
	delete(in.open, s.o.Name)
	if len(in.streams) > 0 {
		c.settle(s.o.Namespace, in)
	}
}

// untouched reports whether a Secret still has the resourceVersion that it had, as far as that is known.
// The caller holds the Secret's lock.
func (c *Cluster) untouched(s *Secret) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.spaces[s.o.Namespace]
	c.settle(s.o.Namespace, in)
	w := in.streams[in.selectorOf(s.o.Name)]
	if w == nil || !w.up {
		return time.Since(s.verified) < readEvery
	}
	if seen, told := w.versions[s.o.Name]; told {
		return seen == s.version
	}
	return time.Since(w.since) < settleTime
}

// byLabel reports whether one stream follows all Secrets of the namespace.
func (in *space) byLabel() bool { return len(in.open) > mostByName }

func (in *space) selectorOf(name string) selector {
	if in.byLabel() {
		return selector{}
	}
	return selector{name}
}

// settle starts the streams that a namespace needs, and ends the others. The caller holds mu.
func (c *Cluster) settle(namespace string, in *space) {
	if c.ctx.Err() != nil {
		return
	}
	wanted := map[selector]bool{}
	for name := range in.open {
		wanted[in.selectorOf(name)] = true
	}
	for which, w := range in.streams {
		if !wanted[which] {
			w.cancel()
			delete(in.streams, which)
		}
	}
	for _, which := range slices.SortedFunc(maps.Keys(wanted), func(a, b selector) int { return strings.Compare(a.name, b.name) }) {
		if in.streams[which] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(c.ctx)
		w := &watch{cancel: cancel, versions: map[string]string{}}
		in.streams[which] = w
		c.running.Go(func() { c.follow(ctx, w, namespace, which) })
	}
}

// follow keeps a stream open until ctx ends. A new stream continues where the last one ended, unless that is too long
// ago: then it reports everything again.
func (c *Cluster) follow(ctx context.Context, w *watch, namespace string, which selector) {
	watching := kubeapi.Watching{Path: kubeapi.SecretPath(namespace, "")}
	if which.name != "" {
		watching.Fields = "metadata.name=" + which.name
	} else {
		watching.Labels = ManagedLabel + "=true"
	}
	for failures := 0; ; {
		err := c.api.Watch(ctx, watching, func() {
			failures = 0
			c.opened(w, watching.From == "")
		}, func(e kubeapi.Event) {
			watching.From = e.Version
			c.saw(w, e)
		})
		pause := shortestPause
		var refused *kubeapi.Error
		var waiting *kubeapi.WaitError
		switch {
		case err == nil:
		case errors.As(err, &refused) && refused.Code == http.StatusGone:
			watching.From = ""
		case errors.As(err, &refused) && refused.Code == http.StatusForbidden:
			c.reportForbidden(w, namespace, which, err)
			watching.From, pause = "", askAgain
		case errors.As(err, &waiting):
			pause = waiting.Wait
		default:
			pause = min(shortestPause<<min(failures, 10), longestPause)
			failures++
		}
		c.closed(w)
		if !sleep(ctx, pause+rand.N(pause/2)) {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (c *Cluster) opened(w *watch, fromStart bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.up, w.forbidden = true, false
	if fromStart {
		w.since = time.Now()
		clear(w.versions)
	}
}

func (c *Cluster) closed(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.up = false
}

func (c *Cluster) saw(w *watch, e kubeapi.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Type {
	case "BOOKMARK":
	case "DELETED":
		w.versions[e.Name] = ""
	default:
		w.versions[e.Name] = e.Version
	}
}

// reportForbidden logs, once until the watch is allowed, that changes are noticed late.
func (c *Cluster) reportForbidden(w *watch, namespace string, which selector, err error) {
	c.mu.Lock()
	first := !w.forbidden
	w.forbidden = true
	c.mu.Unlock()
	if !first {
		return
	}
	right := "watch on secrets in the namespace"
	if which.name != "" {
		right = "watch on the Secret " + which.name
	}
	c.log.Warn("watching Secrets is forbidden, reading them every ten minutes to detect changes",
		logkey.Namespace, namespace, logkey.Error, err, logkey.Advice, "grant the pod's service account "+right)
}
