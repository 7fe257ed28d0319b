package metrics

import (
	"bufio"
	"io"
	"math"
	"strconv"
)

// exposition writes metrics in Prometheus's text format, version 0.0.4, line by line: many tokens have many metrics,
// and the client library would assemble all of them in memory first.
type exposition struct {
	w    *bufio.Writer
	line []byte
}

func newExposition(w io.Writer) *exposition { return &exposition{w: bufio.NewWriterSize(w, 64<<10)} }

// kind is the type of a metric.
type kind string

const (
	counter kind = "counter"
	gauge   kind = "gauge"
)

// family is a metric by name, with the names of its labels.
type family struct {
	name, help string
	kind       kind
	labels     []string
}

// begin returns a writer of the metric's samples. A metric without samples is omitted.
func (e *exposition) begin(f family) *samples { return &samples{e: e, family: f} }

// end flushes, and returns the first error of any write.
func (e *exposition) end() error { return e.w.Flush() }

// samples writes a metric's samples.
type samples struct {
	e     *exposition
	begun bool
	family
}

// add writes a sample; the values are those of the labels.
func (s *samples) add(value float64, values ...string) {
	line := s.e.line[:0]
	if !s.begun {
		s.begun = true
		line = append(append(append(append(line, "# HELP "...), s.name...), ' '), s.help...)
		line = append(append(append(append(line, "\n# TYPE "...), s.name...), ' '), s.kind...)
		line = append(line, '\n')
	}
	line = append(line, s.name...)
	separator := byte('{')
	for i, name := range s.labels {
		line = append(append(append(line, separator), name...), `="`...)
		line = append(appendEscaped(line, values[i]), '"')
		separator = ','
	}
	line = append(line, "} "...)
	line = append(appendNumber(line, value), '\n')
	s.e.line = line
	_, _ = s.e.w.Write(line) // the writer keeps the first error
}

func appendNumber(line []byte, value float64) []byte {
	if whole := int64(value); float64(whole) == value && math.Abs(value) < 1<<53 {
		return strconv.AppendInt(line, whole, 10)
	}
	return strconv.AppendFloat(line, value, 'g', -1, 64)
}

// appendEscaped appends the value of a label.
func appendEscaped(line []byte, value string) []byte {
	for i := range len(value) {
		switch c := value[i]; c {
		case '\\', '"':
			line = append(line, '\\', c)
		case '\n':
			line = append(line, `\n`...)
		default:
			line = append(line, c)
		}
	}
	return line
}
