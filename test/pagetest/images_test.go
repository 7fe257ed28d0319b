//go:build unix

package pagetest

import (
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/api"
	"github.com/credagent/credagent/agent/status"
)

// images is where the pictures of the documents are written, with
// go test ./pagetest -run TestManyTokens -args -images ../../docs/images.
var images = flag.String("images", "", "write the pictures of the page to this directory")

// fixed is an agent with a constant status.
type fixed struct{ status status.Status }

func (f fixed) Alive() bool { return true }

// Status is the same life at every instant, so that pictures of it are alike.
func (f fixed) Status() status.Status { return f.status }

// fleet is 41 tokens of which one is refused and one is throttled.
func fleet(now time.Time) status.Status {
	in := func(d time.Duration) *time.Time { return status.Instant(now.Add(d)) }
	s := status.Status{
		Version: "v0.2.0", Source: "/etc/credagent/credagent.yaml", StartedAt: now.Add(-50 * time.Hour), Now: now,
		NotReady: []string{`token "billing" is not valid`},
	}
	add := func(t status.Token) {
		path := "/run/credagent/" + t.Name + ".token"
		s.Tokens = append(s.Tokens, t)
		s.Sinks = append(s.Sinks, status.Sink{Path: path, Tokens: []string{t.Name}, Holds: true, LastSuccess: t.AcquiredAt})
	}
	services := []string{"orders", "stock", "mail", "search", "shipping", "catalog", "graph", "audit", "returns", "pricing", "loyalty", "exports", "imports"}
	for i := range 39 {
		passed := time.Duration(1+i*37%29) * time.Minute
		add(status.Token{
			Name: fmt.Sprintf("%s-%s", services[i%13], []string{"eu", "us", "apac"}[i/13]), Client: "payments", Scope: "api://shop/.default", Valid: true,
			AcquiredAt: in(-passed), Expiry: in(time.Hour - passed), RefreshAt: in(30*time.Minute - passed), LastOutcome: "success", Requests: 97 + i,
		})
	}
	add(status.Token{
		Name: "reports", Client: "reports", Scope: "https://graph.microsoft.com/.default", Valid: true, AcquiredAt: in(-38 * time.Minute), Expiry: in(22 * time.Minute), RefreshAt: in(8 * time.Minute),
		LastOutcome: "throttled", LastError: "HTTP 429, the server asked to wait 600 s", LastErrorAt: in(-2 * time.Minute), ConsecutiveFailures: 1, Requests: 54,
	})
	add(status.Token{
		Name: "billing", Client: "billing", Scope: "https://graph.microsoft.com/.default", AcquiredAt: in(-80 * time.Minute), Expiry: in(-20 * time.Minute), RefreshAt: in(4 * time.Minute),
		LastOutcome: "credential", LastError: "invalid_client (401), AADSTS7000222: The provided client secret keys for app 'billing' are expired.", LastErrorAt: in(-time.Minute),
		Advice: "create a new client secret at the app registration, and write it to the client's secret_file", ConsecutiveFailures: 7, Requests: 61,
	})
	client := func(name string, g status.Gate, c status.Credential) {
		c.Name, c.InUse = status.Primary, true
		s.Clients = append(s.Clients, status.Client{
			Name: name, ClientID: "8f2e1a7c-5b0d-4a56-9d1e-0c6a3c1f" + fmt.Sprintf("%04x", len(name)*911), TokenEndpoint: "https://login.microsoftonline.com/contoso/oauth2/v2.0/token",
			Gate: g, Credentials: []status.Credential{c},
		})
	}
	client("payments", status.Gate{}, status.Credential{Provider: "certcred", Identity: "SHA256:5f1c9e0d", NotAfter: in(210 * 24 * time.Hour)})
	client("reports", status.Gate{BlockedUntil: in(8 * time.Minute), Failures: 1}, status.Credential{Provider: "certcred", Identity: "SHA256:77ab20c4", NotAfter: in(320 * 24 * time.Hour)})
	client("billing", status.Gate{RetryAt: in(4 * time.Minute), Failures: 7}, status.Credential{Provider: "secretcred"})
	s.DescribeSinks()
	return s
}

// picture is what the browser makes of the page of a width.
type picture struct {
	PNG                  string
	Width, Inner         int
	Refused, Throttled   float64 // how far down each begins
	Order                []string
	Filtered, Everything int
	Named                string // the first that matches
	Opened               bool
}

// TestManyTokens looks at a page of 41 tokens, wide and on a phone, in light and dark: what needs a person is
// seen without scrolling, nothing is wider than the screen, and the filter finds what it should.
func TestManyTokens(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a browser: not with -short")
	}
	chromium := findChromium(t)
	now := time.Now().Truncate(time.Second)
	server := httptest.NewServer(api.Handler(fixed{fleet(now)}, http.NotFoundHandler()))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	b := startBrowser(t, chromium, server.URL+"/")
	for _, width := range []int{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			var saw picture
			b.look(t, "many", fmt.Sprintf("%d %s", width, scheme), &saw)
			saw.check(t, width)
			if *images != "" {
				saw.write(t, filepath.Join(*images, fmt.Sprintf("status-%d-%s.png", width, scheme)))
			}
		}
	}
	b.isContent(t, server.Listener.Addr().String())
}

// write keeps the picture with 256 colors, a third of its size.
func (p picture) write(t *testing.T, path string) {
	t.Helper()
	shot, err := png.Decode(base64.NewDecoder(base64.StdEncoding, strings.NewReader(p.PNG)))
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := errors.Join(encoder.Encode(file, reduced(shot)), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// reduced joins colors that are alike until 256 are left. Of those joined, the most frequent stays, so that
// plain areas keep theirs.
func reduced(shot image.Image) image.Image {
	counts := map[color.RGBA]int{}
	bounds := shot.Bounds()
	each := func(f func(x, y int, c color.RGBA)) {
		for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
			for x := bounds.Min.X; x < bounds.Max.X; x++ {
				f(x, y, color.RGBAModel.Convert(shot.At(x, y)).(color.RGBA))
			}
		}
	}
	each(func(_, _ int, c color.RGBA) { counts[c]++ })
	for bits := range 8 {
		alike := func(c color.RGBA) color.RGBA {
			return color.RGBA{c.R >> bits, c.G >> bits, c.B >> bits, c.A}
		}
		kept := map[color.RGBA]color.RGBA{}
		for c, n := range counts {
			if other, ok := kept[alike(c)]; !ok || n > counts[other] {
				kept[alike(c)] = c
			}
		}
		if len(kept) > 256 {
			continue
		}
		small := image.NewPaletted(bounds, nil)
		index := map[color.RGBA]uint8{}
		for group, c := range kept {
			index[group] = uint8(len(small.Palette)) //nolint:gosec // there are 256 at most
			small.Palette = append(small.Palette, c)
		}
		each(func(x, y int, c color.RGBA) { small.SetColorIndex(x, y, index[alike(c)]) })
		return small
	}
	return shot
}

func (p picture) check(t *testing.T, width int) {
	t.Helper()
	if p.Width > p.Inner {
		t.Errorf("%d: the page is %d wide", width, p.Width)
	}
	if p.Refused <= 0 || p.Refused > 400 || p.Throttled <= p.Refused || p.Throttled > 800 {
		t.Errorf("%d: the refused token is told of at %.0f, the throttled one at %.0f", width, p.Refused, p.Throttled)
	}
	if len(p.Order) != 41 || p.Order[0] != "token-billing" || p.Order[1] != "token-reports" {
		t.Errorf("%d: the tokens are in the order %q", width, p.Order)
	}
	if p.Everything != 41+3+41 || p.Filtered != 2 || p.Named != "token-orders-us" {
		t.Errorf("%d: of %d, %d match, the token %q", width, p.Everything, p.Filtered, p.Named)
	}
	if !p.Opened {
		t.Errorf("%d: a link to a token does not open it", width)
	}
}
