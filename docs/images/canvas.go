package main

import (
	"fmt"
	"html"
	"strings"
)

// style is the look of all diagrams. A picture in a README follows the reader's system, not the
// page around it, so each brings its own background.
const style = `<style>
text { font: 15px system-ui, -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: #1f2328; }
.strong { font-weight: 600; }
.small { font-size: 13px; }
.soft { fill: #57606a; }
.mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 13px; }
.page { fill: #ffffff; stroke: #d0d7de; }
.frame { fill: #f6f8fa; stroke: #8c959f; stroke-dasharray: 6 4; }
.box { fill: #ffffff; stroke: #57606a; stroke-width: 1.3; }
.agent { fill: #ddf4ff; stroke: #0969da; stroke-width: 1.6; }
.good { fill: #dafbe1; stroke: #1a7f37; stroke-width: 1.3; }
.wait { fill: #fff1e5; stroke: #bc4c00; stroke-width: 1.3; }
.line { stroke: #424a53; stroke-width: 1.6; fill: none; }
.thin { stroke: #8c959f; stroke-width: 1; fill: none; }
.head { fill: #424a53; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.soft { fill: #9da7b3; }
.page { fill: #0d1117; stroke: #30363d; }
.frame { fill: #161b22; stroke: #6e7681; }
.box { fill: #21262d; stroke: #9da7b3; }
.agent { fill: #0c2d6b; stroke: #58a6ff; }
.good { fill: #0f3d22; stroke: #3fb950; }
.wait { fill: #4d2604; stroke: #f0883e; }
.line { stroke: #b1bac4; }
.thin { stroke: #6e7681; }
.head { fill: #b1bac4; }
}
</style>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto-start-reverse"><path class="head" d="M0 0 10 5 0 10z"/></marker></defs>
`

// canvas is a diagram that is being drawn. Lengths are in pixels of a README's width, 880.
type canvas struct{ strings.Builder }

type point struct{ x, y int }

type rectangle struct{ x, y, width, height int }

func (r rectangle) top() point    { return point{r.x + r.width/2, r.y} }
func (r rectangle) bottom() point { return point{r.x + r.width/2, r.y + r.height} }
func (r rectangle) left() point   { return point{r.x, r.y + r.height/2} }
func (r rectangle) right() point  { return point{r.x + r.width, r.y + r.height/2} }

// moved is the point so far to the right of, and below, another.
func (p point) moved(x, y int) point { return point{p.x + x, p.y + y} }

// start begins a diagram; title and description are for those who have it read to them.
func start(height int, title, description string) *canvas {
	var c canvas
	fmt.Fprintf(&c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 %d" role="img" aria-labelledby="title description">
<!-- Drawn by make diagrams. -->
<title id="title">%s</title>
<desc id="description">%s</desc>
`, height, html.EscapeString(title), html.EscapeString(description))
	c.WriteString(style)
	c.rectangle("page", rectangle{0, 0, 880, height})
	return &c
}

func (c *canvas) end() string {
	c.WriteString("</svg>\n")
	return c.String()
}

func (c *canvas) rectangle(class string, r rectangle) {
	fmt.Fprintf(c, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="8"/>`+"\n", class, r.x, r.y, r.width, r.height)
}

// text writes a line whose anchor is start, middle or end.
func (c *canvas) text(class, anchor string, at point, text string) {
	fmt.Fprintf(c, `<text class="%s" text-anchor="%s" x="%d" y="%d">%s</text>`+"\n", class, anchor, at.x, at.y, html.EscapeString(text))
}

// box draws a box with its name and lines below that, all in its middle.
func (c *canvas) box(class string, r rectangle, name string, lines ...string) {
	c.rectangle(class, r)
	const step = 19
	at := point{r.x + r.width/2, r.y + r.height/2 + 5 - step*len(lines)/2}
	c.text("strong", "middle", at, name)
	for _, line := range lines {
		at = at.moved(0, step)
		c.text(classOf(line), "middle", at, strings.Trim(line, "`"))
	}
}

// classOf sets what is in backquotes, as code is in the documents, in a monospaced face.
func classOf(line string) string {
	if strings.HasPrefix(line, "`") {
		return "mono"
	}
	return "small soft"
}

// arrow draws a line through points, with a head at its end.
func (c *canvas) arrow(points ...point) { c.path("line", `marker-end="url(#head)"`, points) }

// line draws one without a head.
func (c *canvas) line(class string, points ...point) { c.path(class, "", points) }

func (c *canvas) path(class, attributes string, points []point) {
	var d []string
	for _, p := range points {
		d = append(d, fmt.Sprintf("%d %d", p.x, p.y))
	}
	fmt.Fprintf(c, `<path class="%s" %s d="M%s"/>`+"\n", class, attributes, strings.Join(d, "L"))
}
