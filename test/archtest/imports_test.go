package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// room defines what a package of this module may import from this module, and why no more.
type room struct {
	may    []string
	reason string
}

// anything marks the rooms that wire others together.
var anything = []string{"*"}

// rooms is the plan of the house.
var rooms = map[string]room{
	"agent/policy":   {nil, "decisions are functions of values, so that they can be tested and read without a daemon around them"},
	"agent/status":   {nil, "it is the wire form of what the agent tells, which the command line reads too"},
	"agent/oauth":    {[]string{"agent/policy", "internal/loopback", "internal/printable", "internal/secret"}, "it is the wire of OAuth and knows neither files nor processes"},
	"agent/config":   {[]string{"internal/atomicfile", "internal/kubeapi", "internal/loopback", "internal/samefile", "internal/transport", "sink"}, "a configuration is plain values; of the rest it only asks sink whether a template is sound, transport whether a proxy is, and kubeapi which namespace the pod is in"},
	"agent/provider": {[]string{"internal/handshake", "internal/printable", "internal/process", "plugins/providerpb"}, "it is the bridge to providers' processes and knows nothing of tokens or waiting"},
	"agent/store":    {[]string{"agent/policy", "internal/atomicfile", "internal/host", "internal/kubeapi", "internal/printable", "internal/secret", "token"}, "it keeps values, and knows neither the daemon nor the configuration that they are of"},
	"agent/metrics":  {[]string{"agent/config", "agent/policy", "agent/status"}, "it counts what the others tell it, and reads gauges from the status"},
	"agent/exchange": {[]string{
		"agent/config", "agent/oauth", "agent/policy", "agent/provider", "internal/logkey", "internal/redact", "internal/transport",
	}, "it reads what servers answer and decides nothing"},
	"agent/gate": {[]string{
		"agent/config", "agent/exchange", "agent/metrics", "agent/oauth", "agent/policy", "agent/provider", "agent/status", "agent/store", "internal/filewatch", "internal/logkey", "internal/redact", "internal/secret", "internal/transport", "internal/worker",
	}, "it sends a client's requests and knows no token but by name, and no sink"},
	"agent/keeper": {[]string{
		"agent/config", "agent/exchange", "agent/gate", "agent/metrics", "agent/oauth", "agent/policy", "agent/status", "agent/store", "internal/logkey", "internal/secret", "token", "internal/worker",
	}, "it decides about a token, asks a gate for it and hands it on; it knows neither sinks nor providers"},
	"agent/delivery": {[]string{
		"agent/config", "agent/metrics", "agent/policy", "agent/status", "internal/host", "internal/kubeapi", "internal/logkey", "internal/printable", "internal/process", "internal/redact", "token", "internal/worker", "sink", "internal/kubesecret",
	}, "it brings sinks up to date, and knows nothing of how tokens are had"},
	"agent/signals": {[]string{
		"agent/config", "agent/metrics", "agent/policy", "agent/status", "agent/store", "internal/logkey", "internal/loopback", "internal/printable", "internal/redact", "internal/secret", "internal/transport", "token",
	}, "it hears what a transmitter says, and has the agent act by functions that it is given; it knows neither keepers nor gates"},
	"agent/doctor": {[]string{
		"agent/config", "agent/policy", "agent/provider", "agent/status", "agent/store", "internal/atomicfile", "internal/host", "internal/kubeapi", "internal/process", "internal/transport", "sink",
	}, "it looks at what each room needs of the host, and runs without the daemon"},
	"agent/api": {[]string{"agent", "agent/status", "internal/host", "internal/loopback", "internal/peer", "internal/secret", "token", "sink"}, "it serves what the agent knows, and asks it through small interfaces; of sink it has the writing of a file"},
	"agent": {[]string{
		"agent/config", "agent/delivery", "agent/exchange", "agent/gate", "agent/keeper", "agent/metrics", "agent/provider", "agent/policy", "agent/signals", "agent/status", "agent/store", "internal/clockwatch", "internal/filewatch", "internal/host", "internal/logkey", "internal/secret", "token", "sink",
	}, "the daemon joins the rooms below it and is started from above, by cmd"},

	"internal/kubesecret": {[]string{"internal/kubeapi", "internal/logkey", "sink", "token"}, "a Secret that workloads read knows nothing of OAuth or the agent; kubeapi sends its requests"},
	"sink":                {[]string{"internal/atomicfile", "internal/host", "internal/secret", "token"}, "files that workloads read know nothing of OAuth, HTTP or the agent"},

	"plugins":                    {[]string{"internal/handshake", "internal/redact", "internal/transport", "plugins/providerpb"}, "it is the kit that others build providers with; the agent is no part of it"},
	"plugins/providerpb":         {nil, "it is generated from the contract"},
	"plugins/certcred":           {[]string{"internal/keyfile", "internal/secret", "plugins", "plugins/internal/assertion", "plugins/internal/certauth", "plugins/internal/credfile", "plugins/internal/spiffe", "plugins/secretcred"}, "a provider is written against the kit, as anybody's would be; it reads files and leaves their use to certauth, and a client secret beside a grant to secretcred"},
	"plugins/jwtcred":            {[]string{"plugins", "plugins/internal/assertion"}, "a provider is written against the kit, as anybody's would be; where assertions come from is assertion's to know"},
	"plugins/secretcred":         {[]string{"internal/secret", "plugins", "plugins/internal/assertion", "plugins/internal/credfile"}, "a provider is written against the kit alone, as anybody's would be"},
	"plugins/internal/certauth":  {[]string{"plugins"}, "it authenticates with a certificate and knows nothing of where its key is"},
	"plugins/plugintest":         {[]string{"agent/provider", "plugins", "plugins/providerpb"}, "it asks a provider just as the agent would, so it does that with the agent's own bridge"},
	"plugins/internal/credtest":  {[]string{"plugins", "plugins/providerpb"}, "it tests providers as the agent would use them"},
	"plugins/internal/assertion": {[]string{"internal/keyfile", "internal/loopback", "internal/printable", "internal/process", "internal/redact", "internal/secret", "internal/transport", "plugins", "plugins/internal/credfile", "plugins/internal/spiffe"}, "it gets assertions and knows nothing of what they are for"},
	"plugins/internal/spiffe":    {[]string{"internal/printable", "internal/secret", "plugins"}, "it asks for an identity and knows nothing of what it is for"},
	"plugins/internal/credfile":  {[]string{"internal/keyfile", "internal/secret"}, "it reads small files for the providers"},

	"plugins/pkcs11cred": {[]string{"internal/keyfile", "plugins", "plugins/internal/certauth", "plugins/internal/credfile"}, "it talks to tokens and leaves the use of their keys to certauth"},
	"plugins/pkcs11cred/credagent-provider-pkcs11cred": {[]string{"plugins", "plugins/pkcs11cred"}, "a provider's program is one call"},

	"examples/provider": {[]string{"plugins"}, "it is what anybody would write outside, with the kit alone"},
	"examples/embed":    {[]string{"agent", "agent/config", "agent/provider", "agent/store", "sink", "token"}, "it is what anybody would write outside, with what is public alone"},

	"bench/fleet":          {[]string{"agent/policy"}, "it plays what policy decides, for ten thousand at once"},
	"internal/process":     {[]string{"internal/printable"}, "it starts and ends processes, whatever they are for"},
	"internal/supervise":   {[]string{"internal/process"}, "it runs a command and knows nothing of tokens"},
	"internal/filewatch":   {nil, "it notices that files changed and knows nothing of what is in them"},
	"internal/clockwatch":  {nil, "it asks the kernel of the clock, whoever goes by it"},
	"testkit/usage":        {nil, "it asks the kernel about a process, whichever it is"},
	"test/canary":          {nil, "it finds what the others must not show, so it has nothing of them"},
	"internal/secret":      {nil, "everything that carries a token stands on it"},
	"token":                {[]string{"internal/secret"}, "it is a value"},
	"internal/handshake":   {nil, "the agent and the kit both stand on it"},
	"internal/transport":   {[]string{"internal/keyfile"}, "metadata and token requests connect alike, on both sides"},
	"internal/devserver":   {[]string{"internal/secret"}, "it judges what the agent sends, so it shares no code with it"},
	"testkit/agentprocess": {nil, "it runs whole programs from outside"},
	"testkit/nodetest":     {nil, "it runs JavaScript of others for tests"},
	"testkit/oidctest":     {[]string{"testkit/nodetest"}, "it runs somebody else's authorization server as the judge, so it shares no code with the agent"},
	"test/nspawn":          {nil, "it boots a machine, whatever is tried in it"},
	"deploy/release":       {nil, "it reads a built program and is no part of it"},
	"bench":                {nil, "it runs benchmarks and knows nothing of what they measure"},
	"bench/baseline":       {nil, "it is what benchmarks compare credagent with, so it has nothing of it"},
	"internal/demo":        {anything, "it shows the whole"},
	"cmd/credagent":        {anything, "it wires the rooms together"},
	"testkit/leaktest":     {nil, "it looks at a whole process after its tests and knows nothing of what ran in it"},
	"internal/atomicfile":  {nil, "sinks and state are written in the same way, by what knows neither"},
	"internal/redact":      {[]string{"internal/secret"}, "it hides what it is told, on both sides"},
	"internal/keyfile":     {nil, "it reads bytes, whoever has them, and opens no file"},
	"internal/logqueue":    {nil, "it hands lines on and knows nothing of what they say"},
	"internal/setup":       {[]string{"agent/config", "internal/host", "internal/process", "internal/secret"}, "it writes a configuration, so it asks config whether it is sound, and has the program validate it as another user"},
	"internal/kubeapi":     {[]string{"internal/printable", "internal/transport"}, "it sends requests as a pod's service account, whatever they are for"},
	"testkit/kubefake":     {[]string{"internal/kubeapi"}, "it answers requests in the test's process, and of what it judges it has the names alone"},
	"testkit/workloadapi":  {nil, "it serves what a test gives it"},
	"internal/loopback":    {nil, "it judges a name, whoever listens there"},
	"internal/printable":   {nil, "it cleans texts, whoever they are from"},
	"internal/worker":      {nil, "it runs what is posted to it, whatever that is"},
	"internal/logkey":      {nil, "it is names"},
	"docs/images":          {nil, "it draws the diagrams of the documents"},

	"bench/baseline/loop":     {nil, "it is what benchmarks compare credagent with, so it has nothing of it"},
	"test/sdktest/azidentity": {nil, "it is a workload of somebody else, which knows nothing of credagent"},
	"examples/watch-file":     {nil, "it is a program of somebody else's, which knows only its file"},

	"bench/sidebyside":            {[]string{"internal/devserver", "internal/secret", "testkit/usage"}, "it compares whole programs, credagent among them, from outside"},
	"bench/sidebyside/loop":       {nil, "it is what somebody would write who has no credagent"},
	"bench/sidebyside/msal":       {[]string{"bench/sidebyside/loop"}, "it is what somebody would write who has no credagent"},
	"bench/sidebyside/azidentity": {[]string{"bench/sidebyside/loop"}, "it is what somebody would write who has no credagent"},

	"internal/verifysink": {[]string{"internal/atomicfile", "internal/filewatch", "internal/host", "sink"}, "it tries the sinks' own writer, and knows nothing of tokens or the agent"},

	"internal/samefile": {nil, "it tells whether two paths are one file, whatever the file is for"},
	"internal/host":     {[]string{"internal/process"}, "it answers questions about the machine, for whoever puts files there; of processes it starts getent"},
	"internal/peer":     {nil, "it asks the kernel one question"},
	"testkit/peertest":  {nil, "it starts a test again as another user"},
	"internal/lockfile": {nil, "it locks bytes of files, whatever they stand for"},
	"agent/hoststate":   {[]string{"agent/policy", "internal/atomicfile", "internal/clockwatch", "internal/lockfile"}, "it keeps what all commands on a host share, whoever sends requests"},
}

func TestPackagesImportOnlyWhatTheirRoomAllows(t *testing.T) {
	for _, f := range program(load(t)) {
		r, known := rooms[f.dir]
		if !known {
			t.Errorf("%s: package %s has no room in the plan; add it to rooms with what it may import, and why", f.name, f.dir)
			continue
		}
		for _, imported := range f.imports(t) {
			pkg, ours := strings.CutPrefix(imported, module+"/")
			if ours && !slices.Contains(r.may, pkg) && !slices.Contains(r.may, "*") {
				t.Errorf("%s imports %s: %s", f.name, pkg, r.reason)
			}
		}
	}
}

func TestEveryRoomIsThere(t *testing.T) {
	// None of these is needed for the rest to work.
	optional := map[string]bool{"bench/baseline": true, "internal/demo": true, "plugins/internal/credtest": true}
	there := map[string]bool{}
	for _, f := range load(t) {
		there[f.dir] = there[f.dir] || !f.test
	}
	for dir := range rooms {
		if !there[dir] && !optional[dir] {
			t.Errorf("the plan has a room %s, but there is no such package", dir)
		}
	}
}

// guest is a module of others and the only packages that may use it.
type guest struct {
	in     []string
	reason string
}

// guests are the dependencies. docs/decisions/0004-dependencies.md describes each.
var guests = map[string]guest{
	"github.com/hashicorp/go-plugin":       {[]string{"agent/provider", "internal/handshake", "plugins"}, "only the bridge's two ends know how processes are started and joined"},
	"github.com/hashicorp/go-hclog":        {[]string{"agent/provider", "plugins"}, "go-plugin wants a logger of this kind; everything else logs with slog"},
	"google.golang.org/grpc":               {[]string{"agent/provider", "plugins", "plugins/internal/credtest", "plugins/internal/spiffe", "plugins/plugintest", "plugins/providerpb", "testkit/workloadapi"}, "only the bridge's two ends speak gRPC, and who asks a Workload API"},
	"github.com/spiffe/go-spiffe/v2":       {[]string{"plugins/internal/spiffe", "testkit/workloadapi"}, "one place asks a Workload API, in a provider's process"},
	"google.golang.org/protobuf":           {[]string{"plugins/providerpb"}, "only generated code handles messages' insides"},
	"github.com/go-jose/go-jose/v4":        {[]string{"agent/signals", "plugins/internal/certauth", "testkit/oidctest"}, "assertions are made and read in providers' processes, security event tokens where they are received; an access token is opaque to the agent"},
	"github.com/kelseyhightower/envconfig": {[]string{"agent/config"}, "one place reads the environment"},
	"go.yaml.in/yaml/v3":                   {[]string{"agent/config"}, "one place reads the configuration file"},
	"github.com/prometheus/client_golang":  {[]string{"agent", "agent/metrics", "cmd/credagent", "internal/demo"}, "metrics are the daemon's; policy and sinks stay free of them"},
	"github.com/prometheus/procfs":         {[]string{"testkit/usage"}, "only tests look at what a process uses"},
	"github.com/spf13/cobra":               {[]string{"cmd/credagent"}, "only the command line parses flags"},
	"github.com/spf13/pflag":               {[]string{"cmd/credagent"}, "it is the flags of cobra, and names the one that was probably meant"},
	"github.com/coreos/go-systemd/v22":     {[]string{"cmd/credagent"}, "only the program talks to the service manager"},
	"filippo.io/age":                       {[]string{"agent/store"}, "one place encrypts"},
	"github.com/fsnotify/fsnotify":         {[]string{"agent", "cmd/credagent", "examples/watch-file", "internal/filewatch"}, "one place notices changes; its users only get its events, and the example is not credagent"},
	"go.uber.org/goleak":                   {[]string{"testkit/leaktest"}, "only tests look for what is left"},
	"golang.org/x/perf":                    {[]string{"bench"}, "it reads benchmarks, in a module of its own"},
	"golang.org/x/oauth2":                  {[]string{"bench/baseline"}, "it decides by itself when requests are sent; credagent is only compared with it"},
	"software.sslmate.com/src/go-pkcs12":   {[]string{"plugins/certcred"}, "keys are read in the provider's process"},
	"golang.org/x/crypto":                  {[]string{"plugins/certcred"}, "keys are opened in the provider's process"},
	"github.com/Azure/azure-sdk-for-go":    {[]string{"test/sdktest/azidentity", "bench/sidebyside/azidentity"}, "it is what a test gives tokens to and what credagent is compared with, in modules of their own"},
	"github.com/miekg/pkcs11":              {[]string{"plugins/pkcs11cred"}, "it needs cgo, so it is kept to a provider of its own and a module of its own"},
	"golang.org/x/net":                     {[]string{"internal/transport"}, "only connections are made through proxies"},
	"golang.org/x/term":                    {[]string{"internal/demo", "cmd/credagent"}, "only what draws on a terminal asks about it"},
	"golang.org/x/sys":                     {[]string{"agent/api", "cmd/credagent", "agent/doctor", "agent/delivery", "agent/provider", "internal/clockwatch", "internal/host", "internal/lockfile", "test/nspawn", "internal/peer", "internal/process", "internal/supervise", "plugins", "sink"}, "system calls are for processes, files, sockets and clocks"},

	"github.com/AzureAD/microsoft-authentication-library-for-go": {[]string{"bench/sidebyside/msal"}, "credagent is only compared with it, in a module of its own"},
}

func TestDependenciesStayInTheirRooms(t *testing.T) {
	for _, f := range load(t) {
		if f.test {
			continue
		}
		for _, imported := range f.imports(t) {
			if isStandard(imported) || within(imported, module) {
				continue
			}
			name, g, known := guestOf(imported)
			switch {
			case !known:
				t.Errorf("%s imports %s, a dependency that nobody has decided on: write it into docs/decisions/0004-dependencies.md and guests", f.name, imported)
			case !slices.Contains(g.in, f.dir):
				t.Errorf("%s imports %s: %s", f.name, name, g.reason)
			}
		}
	}
}

// TestDependenciesAreDecidedOn keeps the record of the dependencies and the plan the same.
func TestDependenciesAreDecidedOn(t *testing.T) {
	const record = "docs/decisions/0004-dependencies.md"
	text, err := os.ReadFile(filepath.Join(root, record))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, f := range load(t) {
		for _, imported := range f.imports(t) {
			name, _, _ := guestOf(imported)
			used[name] = true
		}
	}
	for name := range guests {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("%s does not tell about %s", record, name)
		}
		if !used[name] {
			t.Errorf("nobody uses %s any more: take it out of guests and %s", name, record)
		}
	}
}

func guestOf(imported string) (string, guest, bool) {
	for name, g := range guests {
		if within(imported, name) {
			return name, g, true
		}
	}
	return "", guest{}, false
}

// ban keeps a part of the standard library out of a room.
type ban struct {
	in      string // a package, with all below it
	imports []string
	reason  string
}

var bans = []ban{
	{"agent/policy", []string{"os", "net", "math/rand", "math/rand/v2", "crypto/rand", "context", "sync", "log/slog"}, "policy has no clock, chance, network, disk or goroutine; it is handed values"},
	{"sink", []string{"net", "net/http", "net/url"}, "a sink is a file, whoever the token came from"},
	{"agent/config", []string{"net/http", "os/exec"}, "reading a configuration touches no network and starts nothing"},
	{"agent/store", []string{"net", "net/http", "os/exec", "log/slog"}, "it says what is wrong with a file to who asked for it, and to nobody else"},
	{"agent/oauth", []string{"os", "net/http"}, "it parses; who sends is the providers' business"},
	{"internal/secret", []string{"encoding/json", "os"}, "a secret is shown and stored by nobody but who reveals it"},
}

func TestRoomsKeepOutWhatTheyMustNotDo(t *testing.T) {
	for _, f := range program(load(t)) {
		for _, b := range bans {
			if !within(f.dir, b.in) {
				continue
			}
			for _, imported := range f.imports(t) {
				if slices.Contains(b.imports, imported) {
					t.Errorf("%s imports %s: %s", f.name, imported, b.reason)
				}
			}
		}
	}
}

func TestImportsForEveryPackage(t *testing.T) {
	rules := map[string]struct {
		imported string
		in       []string
		reason   string
	}{
		"processes": {"os/exec", []string{"agent/provider", "testkit/agentprocess", "testkit/nodetest", "test/nspawn", "testkit/oidctest", "testkit/peertest", "internal/process", "deploy/release", "bench", "bench/sidebyside"}, "one package of the program starts processes, so one package is read to know what they inherit; go-plugin wants its commands made by agent/provider"},
		"cgo":       {"C", nil, "credagent is pure Go: one static binary for every distribution"},
		"log":       {"log", []string{"internal/devserver", "plugins/plugintest"}, "the program logs with slog and one set of keys"},
		"unsafe":    {"unsafe", []string{"internal/peer"}, "nothing else is worth it: one package asks the kernel for a list that golang.org/x/sys has no call for"},
		"plugin":    {"plugin", nil, "providers are processes; code loaded into the agent would share its memory"},
	}
	files := program(load(t))
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			for _, f := range files {
				if slices.Contains(f.imports(t), rule.imported) && !slices.Contains(rule.in, f.dir) {
					t.Errorf("%s imports %s: %s", f.name, rule.imported, rule.reason)
				}
			}
		})
	}
}

// TestOnlyTestsImportTestHelpers keeps packages that are for tests, which are those that import
// package testing, out of the program.
func TestOnlyTestsImportTestHelpers(t *testing.T) {
	files := program(load(t))
	helpers := map[string]bool{}
	for _, f := range files {
		helpers[f.dir] = helpers[f.dir] || slices.Contains(f.imports(t), "testing")
	}
	if !helpers["testkit/oidctest"] {
		t.Error("testkit/oidctest is not seen as a helper of tests")
	}
	for _, f := range files {
		for _, imported := range f.imports(t) {
			pkg, _ := strings.CutPrefix(imported, module+"/")
			if helpers[pkg] && !helpers[f.dir] {
				t.Errorf("%s imports %s, which is for tests only: the program never runs what was written to test it", f.name, pkg)
			}
		}
	}
}
