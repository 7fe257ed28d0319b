package api

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/status"
)

// pageSecurity allows the page only its own two assets and requests to its own server.
const pageSecurity = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed page
var pageFiles embed.FS

// page is the status page for people. It is rendered here; its script only moves the clocks and replaces the content
// with what the server renders.
type page struct {
	source   Source
	template *template.Template
	readers  chan struct{} // a slot for each reader of the stream

	mu    sync.Mutex
	frame frame // guarded by mu
}

// frame is the page's content, rendered when it changed.
type frame struct {
	number int
	looked time.Time
	status status.Status // without Now
	html   []byte
}

func newPage(source Source) *page {
	return &page{
		source:   source,
		template: template.Must(template.New("").Funcs(pageFunctions).ParseFS(pageFiles, "page/*.html")),
		readers:  make(chan struct{}, mostReaders),
	}
}

// route adds the page and its assets.
func (p *page) route(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", p.serve)
	mux.HandleFunc("GET /v1/events", p.stream)
	for name, kind := range map[string]string{
		"status.css": "text/css; charset=utf-8", "status.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		content, err := fs.ReadFile(pageFiles, "page/"+name)
		if err != nil {
			panic(err) // the file is part of the program
		}
		mux.HandleFunc("GET /assets/"+name, func(w http.ResponseWriter, _ *http.Request) {
			secure(w, kind)
			_, _ = w.Write(content) // the reader is gone, if anything
		})
	}
}

func (p *page) serve(w http.ResponseWriter, _ *http.Request) {
	var html bytes.Buffer
	if err := p.template.ExecuteTemplate(&html, "page.html", newView(p.source.Status())); err != nil {
		http.Error(w, "the page cannot be rendered", http.StatusInternalServerError)
		return
	}
	secure(w, "text/html; charset=utf-8")
	_, _ = w.Write(html.Bytes())
}

// secure sets the headers of everything that a browser shows. Nothing is cached, so that after an update of the agent
// the page is the new one.
func secure(w http.ResponseWriter, kind string) {
	for name, value := range map[string]string{
		"Content-Type":                 kind,
		"Content-Security-Policy":      pageSecurity,
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cache-Control":                "no-store",
	} {
		w.Header().Set(name, value)
	}
}

// look returns the page's current content. The first caller in a while renders it, for all.
func (p *page) look() (frame, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.frame.number > 0 && now.Sub(p.frame.looked) < lookTime/2 {
		return p.frame, nil
	}
	s := p.source.Status()
	shown := s
	shown.Now = time.Time{}
	if p.frame.number > 0 && reflect.DeepEqual(shown, p.frame.status) {
		p.frame.looked = now
		return p.frame, nil
	}
	var html bytes.Buffer
	if err := p.template.ExecuteTemplate(&html, "status.html", newView(s)); err != nil {
		return frame{}, err
	}
	p.frame = frame{p.frame.number + 1, now, shown, html.Bytes()}
	return p.frame, nil
}

var pageFunctions = template.FuncMap{
	"percent": func(share float64) string { return strconv.FormatFloat(100*share, 'f', 2, 64) + "%" },
	"align":   align,
	"anchor":  anchor,
	"color":   color,
	"token":   func(name string) link { return link{name, string(status.AboutToken)} },
	"hour":    hour,
	"clock":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"day":     func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
	"stamp":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"millis":  func(t time.Time) int64 { return t.UnixMilli() },
	"plural": func(n int, one, many string) string {
		if n == 1 {
			return fmt.Sprintf("%d %s", n, one)
		}
		return fmt.Sprintf("%d %s", n, many)
	},
}

// anchor returns the id on the page for a name. Different names have different ids, and an id has no special
// characters of HTML or URLs.
func anchor(kind, name string) string {
	id := []byte(kind + "-")
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
			id = append(id, c)
		default:
			id = fmt.Appendf(id, ".%02x", c)
		}
	}
	return string(id)
}

// color returns the CSS class of a level's color.
func color(level status.Level) string {
	return map[status.Level]string{status.Act: "bad", status.Soon: "warn", status.Wait: "warn", status.Well: "good"}[level]
}

// align keeps a label within its line.
func align(share float64) string {
	switch {
	case share < 0.25:
		return "start"
	case share > 0.75:
		return "end"
	}
	return "middle"
}

// hour formats an instant of a lifetime: the time of day, with the date if the lifetime is longer than a day.
func hour(at, from, to time.Time) string {
	if to.Sub(from) < 24*time.Hour {
		return at.UTC().Format(time.TimeOnly)
	}
	return at.UTC().Format("2 Jan 15:04")
}
