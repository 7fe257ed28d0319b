package metrics

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestCounts(t *testing.T) {
	c := newCounts("requests_total", "Requests.", []string{"success", "failed"}, "client", "token")
	c.begin(key{"b", "graph"})
	c.begin(key{"a", "mail"})
	c.begin(key{"a", "gone"})
	c.begin(key{"a", "gone"}) // once more, as a reload does
	var counting sync.WaitGroup
	for range 100 {
		counting.Go(func() {
			c.add(key{"a", "mail"}, "failed")
			c.add(key{"a", "new"}, "success")
		})
	}
	counting.Wait()
	c.forget(key{"a", "gone"})
	const want = `# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{client="a",outcome="success",token="mail"} 0
requests_total{client="a",outcome="failed",token="mail"} 100
requests_total{client="a",outcome="success",token="new"} 100
requests_total{client="a",outcome="failed",token="new"} 0
requests_total{client="b",outcome="success",token="graph"} 0
requests_total{client="b",outcome="failed",token="graph"} 0
`
	if got := written(t, c); got != want {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
	one := newCounts("writes_total", "Writes.", []string{"written"}, "sink")
	one.add(key{"/run/token"}, "written")
	if got, want := written(t, one), "# HELP writes_total Writes.\n# TYPE writes_total counter\nwrites_total{outcome=\"written\",sink=\"/run/token\"} 1\n"; got != want {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
}

func written(t *testing.T, c *counts) string {
	t.Helper()
	var text bytes.Buffer
	e := newExposition(&text)
	c.write(e)
	if err := e.end(); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// stuck is a reader that takes nothing until it is let go.
type stuck struct{ reading, release chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	s.reading <- struct{}{}
	<-s.release
	return len(p), nil
}

func TestAStuckReaderHoldsUpNoCount(t *testing.T) {
	c := newCounts("writes_total", "Writes.", []string{"written"}, "sink")
	for i := range 10_000 { // more than is buffered
		c.begin(key{fmt.Sprint(i)})
	}
	reader := stuck{make(chan struct{}, 100), make(chan struct{})}
	go c.write(newExposition(reader))
	<-reader.reading
	forgotten := make(chan struct{})
	go func() {
		defer close(forgotten)
		c.forget(key{"0"})
		c.add(key{"1"}, "written")
	}()
	select {
	case <-forgotten:
	case <-time.After(10 * time.Second):
		t.Error("counting waits for the reader")
	}
	close(reader.release)
}
