package fleet

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"
)

// The picture's measures, in pixels.
const (
	width, height            = 960, 420
	left, right, top, bottom = 64, 24, 76, 46
	lowest, highest          = 0.1, 1000.0 // requests a second; the axis is logarithmic
)

var colours = []string{"#0b7a6e", "#b4541a", "#8a8a8a"}

// Plot draws the rates of all results into one SVG.
func Plot(results []Result) string {
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(&svg, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#f3e9dd"/>`+"\n", x(Begins), top, x(Ends)-x(Begins), height-top-bottom)
	fmt.Fprintf(&svg, `<text x="%.1f" y="%d" text-anchor="middle" fill="#6b5a45">outage</text>`+"\n", (x(Begins)+x(Ends))/2, top+16)
	axes(&svg)
	// The one to be seen is drawn last.
	for i := len(results) - 1; i >= 0; i-- {
		fmt.Fprintf(&svg, `<polyline fill="none" stroke="%s" stroke-width="%.1f" points="%s"/>`+"\n", colours[i], 2-0.4*float64(min(i, 1)), points(results[i]))
	}
	for i, r := range results {
		at := 18 + 18*i
		fmt.Fprintf(&svg, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="3"/>`+"\n", left, at-4, left+22, at-4, colours[i])
		fmt.Fprintf(&svg, `<text x="%d" y="%d">%s</text>`+"\n", left+30, at, html.EscapeString(legend(r)))
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}

func legend(r Result) string {
	return fmt.Sprintf("%s: at most %.0f/s in the outage, %.0f/s after it", r.Name, r.Peak(Begins, Ends), r.Peak(Ends, Length))
}

func axes(svg *strings.Builder) {
	for rate := lowest; rate <= highest*1.01; rate *= 10 {
		fmt.Fprintf(svg, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#e3e3e3"/>`+"\n", left, y(rate), width-right, y(rate))
		fmt.Fprintf(svg, `<text x="%d" y="%.1f" text-anchor="end" fill="#555">%g</text>`+"\n", left-8, y(rate)+4, math.Round(rate*10)/10)
	}
	for hour := time.Duration(0); hour <= Length; hour += time.Hour {
		fmt.Fprintf(svg, `<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%.0f h</text>`+"\n", x(hour), height-bottom+20, hour.Hours())
	}
	fmt.Fprintf(svg, `<text x="16" y="%d" fill="#555" transform="rotate(-90 16 %d)" text-anchor="middle">requests a second</text>`+"\n", (top+height-bottom)/2, (top+height-bottom)/2)
}

func points(r Result) string {
	var all strings.Builder
	for at := time.Duration(0); at < Length; at += time.Minute {
		fmt.Fprintf(&all, "%.1f,%.1f ", x(at), y(max(r.Peak(at, at+time.Minute), lowest)))
	}
	return strings.TrimSpace(all.String())
}

func x(at time.Duration) float64 {
	return left + float64(width-left-right)*float64(at)/float64(Length)
}

func y(rate float64) float64 {
	share := math.Log10(rate/lowest) / math.Log10(highest/lowest)
	return float64(height-bottom) - share*float64(height-top-bottom)
}
