package kubetest_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubelabels "k8s.io/apimachinery/pkg/labels"
)

// metrics returns the labels of each of credagent's metrics, by the document, which another test compares
// with what a running agent shows.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	document, err := os.ReadFile(root + "/docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(credagent_\\w+)` \\|([^|]*)\\|")
	label := regexp.MustCompile("`(\\w+)`")
	all := map[string][]string{}
	for _, match := range row.FindAllStringSubmatch(string(document), -1) {
		labels := []string{}
		for _, name := range label.FindAllStringSubmatch(match[2], -1) {
			labels = append(labels, name[1])
		}
		all[match[1]] = labels
	}
	if len(all) < 10 {
		t.Fatalf("credagent has the metrics %v only", slices.Sorted(maps.Keys(all)))
	}
	return all
}

// scraped are the labels that every series gets from who scrapes it.
var scraped = []string{"namespace", "pod", "instance", "job", "le", "__name__"}

// checkQuery reports what is wrong with a query, or with the metrics and labels that it asks for.
func checkQuery(t *testing.T, query string, known map[string][]string) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v", query, err)
		return
	}
	found := 0
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		found++
		has, ok := known[strings.TrimSuffix(selector.Name, "_bucket")]
		if !ok {
			t.Errorf("%s: credagent has no metric %s", query, selector.Name)
		}
		for _, matcher := range selector.LabelMatchers {
			if !slices.Contains(has, matcher.Name) && !slices.Contains(scraped, matcher.Name) {
				t.Errorf("%s: %s has no label %s", query, selector.Name, matcher.Name)
			}
		}
		return nil
	})
	if found == 0 {
		t.Errorf("%s asks for no metric", query)
	}
}

// alerts are the rules by their names.
func alerts(t *testing.T) map[string]monitoringv1.Rule {
	t.Helper()
	all := map[string]monitoringv1.Rule{}
	for _, group := range find[*monitoringv1.PrometheusRule](t, "monitoring").Spec.Groups {
		for _, rule := range group.Rules {
			all[rule.Alert] = rule
		}
	}
	return all
}

func TestAlertsAskForWhatThereIs(t *testing.T) {
	known := metrics(t)
	label := regexp.MustCompile(`\$labels\.(\w+)`)
	for name, rule := range alerts(t) {
		query := rule.Expr.StrVal
		checkQuery(t, query, known)
		metric := regexp.MustCompile(`credagent_\w+`).FindString(query)
		for _, annotation := range []string{"summary", "description"} {
			text := rule.Annotations[annotation]
			if text == "" {
				t.Errorf("%s has no %s", name, annotation)
			}
			for _, match := range label.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(known[metric], match[1]) && !slices.Contains(scraped, match[1]) {
					t.Errorf("%s: its %s shows the label %s, which %s does not have", name, annotation, match[1], metric)
				}
			}
		}
		if severity := rule.Labels["severity"]; severity != "warning" && severity != "critical" {
			t.Errorf("%s has the severity %q", name, severity)
		}
	}
}

// occasions are samples, one a minute for an hour from the epoch on, for which an alert is due at the
// end of the hour and for which it is not.
var occasions = map[string]struct{ due, quiet string }{
	"CredagentTokenExpiresSoon":     {`credagent_token_expiry_timestamp_seconds{token="a"} 4000x60`, "credagent_token_expiry_timestamp_seconds{token=\"a\"} 7200x60\ncredagent_token_expiry_timestamp_seconds{token=\"b\"} 0x60"},
	"CredagentNoToken":              {`credagent_token_valid{token="a"} 0x60`, `credagent_token_valid{token="a"} 1x60`},
	"CredagentRefused":              {`credagent_token_requests_total{outcome="credential"} 0x55 1x5`, "credagent_token_requests_total{outcome=\"credential\"} 3x60\ncredagent_token_requests_total{outcome=\"transient\"} 0+1x60"},
	"CredagentRefreshFails":         {`credagent_consecutive_failures{token="a"} 3x60`, `credagent_consecutive_failures{token="a"} 1x60`},
	"CredagentThrottled":            {`credagent_gate_blocked_until_timestamp_seconds{client="a"} 5000x60`, "credagent_gate_blocked_until_timestamp_seconds{client=\"a\"} 3660x60\ncredagent_gate_blocked_until_timestamp_seconds{client=\"b\"} 0x60"},
	"CredagentCredentialEndsSoon":   {`credagent_credential_not_after_timestamp_seconds{client="a"} 1000000x60`, "credagent_credential_not_after_timestamp_seconds{client=\"a\"} 9000000x60\ncredagent_credential_not_after_timestamp_seconds{client=\"b\"} 1000x60"},
	"CredagentCredentialEnded":      {`credagent_credential_not_after_timestamp_seconds{client="a"} 3500x60`, `credagent_credential_not_after_timestamp_seconds{client="a"} 3700x60`},
	"CredagentOnFallbackCredential": {`credagent_credential_in_use{credential="fallback"} 1x60`, "credagent_credential_in_use{credential=\"fallback\"} 0x60\ncredagent_credential_in_use{credential=\"primary\"} 1x60"},
	"CredagentCredentialNotLoaded":  {`credagent_credential_reloads_total{outcome="failed"} 0x50 1x10`, `credagent_credential_reloads_total{outcome="success"} 0+1x60`},
	"CredagentSinkFails":            {`credagent_sink_writes_total{outcome="failed"} 0+1x60`, `credagent_sink_writes_total{outcome="written"} 0+1x60`},
	"CredagentOnChangeFails":        {`credagent_on_change_total{outcome="failed"} 0x50 1x10`, `credagent_on_change_total{outcome="success"} 0+1x60`},
	"CredagentReloadFailed":         {`credagent_config_last_reload_successful 0x60`, `credagent_config_last_reload_successful 1x60`},
}

func TestAlertsFire(t *testing.T) {
	rules := alerts(t)
	for name := range rules {
		if _, ok := occasions[name]; !ok {
			t.Errorf("nobody has tried the alert %s", name)
		}
	}
	for name, occasion := range occasions {
		t.Run(name, func(t *testing.T) {
			query := rules[name].Expr.StrVal
			if n := fires(t, query, occasion.due); n != 1 {
				t.Errorf("%s is true of %d series where it is due, want one", query, n)
			}
			if n := fires(t, query, occasion.quiet); n != 0 {
				t.Errorf("%s is true of %d series where it is not due", query, n)
			}
		})
	}
}

// fires returns of how many series a query is true at the end of the hour.
func fires(t *testing.T, query, series string) int {
	t.Helper()
	load := "load 1m\n"
	for line := range strings.Lines(series) {
		load += "  " + line
	}
	storage := promqltest.LoadedStorage(t, load+"\n")
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	asked, err := engine.NewInstantQuery(context.Background(), storage, nil, query, time.Unix(3600, 0))
	must(t, err)
	defer asked.Close()
	vector, err := asked.Exec(t.Context()).Vector()
	must(t, err)
	return len(vector)
}

func TestPodMonitorFindsThePods(t *testing.T) {
	monitor := find[*monitoringv1.PodMonitor](t, "monitoring")
	selector, err := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector)
	must(t, err)
	for _, dir := range workloads() {
		p := workload(t, dir)
		serves := strings.Contains(configured(t, dir), `listen: ":9465"`)
		if selector.Matches(kubelabels.Set(p.meta.Labels)) != serves {
			t.Errorf("%s: it serves metrics: %v, but the PodMonitor thinks otherwise", dir, serves)
		}
	}
	for _, endpoint := range monitor.Spec.PodMetricsEndpoints {
		if endpoint.Port == nil || *endpoint.Port != "credagent" || endpoint.Path != "/metrics" {
			t.Errorf("the PodMonitor scrapes %+v", endpoint)
		}
	}
}

// dashboard is what the test looks at in a dashboard of Grafana.
type dashboard struct {
	UID        string
	Title      string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID         int
		Type       string
		Title      string
		Datasource struct{ UID string }
		GridPos    struct{ X, Y, W, H int }
		Targets    []struct{ Expr, RefID string }
	}
}

func TestDashboard(t *testing.T) {
	var d dashboard
	must(t, json.Unmarshal([]byte(read(t, filepath.Join(manifests, "monitoring", "credagent.json"))), &d))
	known, shown := metrics(t), ""
	variables := strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$pod", ".*")
	taken := map[[2]int]string{}
	for _, panel := range d.Panels {
		if panel.Datasource.UID != "${datasource}" || len(panel.Targets) == 0 {
			t.Errorf("%s asks nobody, or another data source than the chosen one", panel.Title)
		}
		for _, target := range panel.Targets {
			query := variables.Replace(target.Expr)
			if strings.Contains(query, "$") {
				t.Errorf("%s: %s uses a variable that the dashboard does not have", panel.Title, target.Expr)
			}
			checkQuery(t, query, known)
			shown += query
		}
		for x := range panel.GridPos.W {
			for y := range panel.GridPos.H {
				cell := [2]int{panel.GridPos.X + x, panel.GridPos.Y + y}
				if other := taken[cell]; other != "" || cell[0] >= 24 {
					t.Fatalf("%s lies over %q or beyond the edge", panel.Title, other)
				}
				taken[cell] = panel.Title
			}
		}
	}
	for _, variable := range d.Templating.List {
		if name := regexp.MustCompile(`credagent_\w+`).FindString(variable.Definition); variable.Type == "query" && known[name] == nil {
			t.Errorf("the variable %s is taken from %q", variable.Name, variable.Definition)
		}
	}
	for name := range known {
		if !strings.Contains(shown, name) && name != "credagent_build_info" && name != "credagent_token_valid" {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}
