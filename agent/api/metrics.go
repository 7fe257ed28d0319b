package api

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// Metrics answers with the output of the client library's handler, followed by that of more: metrics that are too
// many to assemble in memory for each scrape. Both are in Prometheus's text format, which every scraper reads, even
// if it prefers another.
func Metrics(library http.Handler, more func(io.Writer) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var out io.Writer = w
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			packed, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // a valid level
			defer packed.Close()
			out = packed
		}
		plain := r.Clone(r.Context())
		plain.Header = http.Header{} // uncompressed, in the text format
		whole := &recorded{ResponseWriter: w, out: out}
		library.ServeHTTP(whole, plain)
		if !whole.failed {
			_ = more(out) // on failure the scraper is gone
		}
	})
}

// recorded is an answer whose body is written elsewhere, and which records whether it is an error.
type recorded struct {
	http.ResponseWriter
	out    io.Writer
	failed bool
}

func (r *recorded) WriteHeader(status int) {
	r.failed = status != http.StatusOK
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorded) Write(p []byte) (int, error) { return r.out.Write(p) }
