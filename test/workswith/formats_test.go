package workswith_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/pkg/kvfile"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

// TestEnvoy reads the sink with Envoy's own schema and its rules. No Envoy runs here.
func TestEnvoy(t *testing.T) {
	s := newStage(t, "envoy", life)
	s.once()
	var answer discovery.DiscoveryResponse
	s.must(protojson.Unmarshal([]byte(s.read("api.json")), &answer))
	if len(answer.Resources) != 1 {
		t.Fatalf("the sink has %d resources, want the one secret", len(answer.Resources))
	}
	var given tls.Secret
	s.must(answer.Resources[0].UnmarshalTo(&given))
	s.must(given.Validate())
	if given.Name != "api" {
		t.Errorf("the secret is called %q; the example's SDS asks for %q", given.Name, "api")
	}
	if !s.tokens.Valid(given.GetGenericSecret().GetSecret().GetInlineString()) {
		t.Error("the secret is not the token")
	}
}

// TestDocker reads the env file with the parser of docker run --env-file.
func TestDocker(t *testing.T) {
	s := newStage(t, "docker", life)
	s.readsVariables(func() []string {
		lines, err := kvfile.Parse(s.path("app.env"), nil)
		s.must(err)
		return lines
	})
}

// TestSystemd reads the env file with systemd's own parser of such files, which the generator of
// user environments calls too.
func TestSystemd(t *testing.T) {
	const generator = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"
	if _, err := os.Stat(generator); err != nil {
		t.Skipf("%s is missing, so this consumer is NOT tested: apt-get install systemd", generator)
	}
	s := newStage(t, "systemd", life)
	s.must(os.Mkdir(s.path("environment.d"), 0o700))
	s.must(os.Symlink(s.path("app.env"), s.path("environment.d/app.conf")))
	s.readsVariables(func() []string {
		cmd := exec.Command(generator)
		cmd.Env = environment("XDG_CONFIG_HOME="+s.dir, "HOME="+s.dir)
		out, err := cmd.Output()
		s.must(err)
		return strings.Split(strings.TrimSpace(string(out)), "\n")
	})
}

// readsVariables has a consumer read the env file of an example before and after it was written
// anew.
func (s *stage) readsVariables(read func() []string) {
	s.Helper()
	s.once()
	first := s.tokenAmong(read())
	s.once()
	if s.tokenAmong(read()) == first {
		s.Error("the consumer reads the old token in the new file")
	}
}

// tokenAmong checks the variables of the examples with env files, and returns the token.
func (s *stage) tokenAmong(lines []string) string {
	s.Helper()
	values := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		values[name] = value
	}
	if !s.tokens.Valid(values["API_TOKEN"]) {
		s.Error("API_TOKEN is not a token that is good now")
	}
	expires, err := strconv.ParseInt(values["API_TOKEN_EXPIRES_ON"], 10, 64)
	if left := time.Until(time.Unix(expires, 0)); err != nil || left <= 0 || left > life {
		s.Errorf("API_TOKEN_EXPIRES_ON is %q, want a second of the next minute", values["API_TOKEN_EXPIRES_ON"])
	}
	return values["API_TOKEN"]
}

// TestKafka checks what Kafka's clients want of the file: a JWT with sub, iat and exp. No client
// runs here.
func TestKafka(t *testing.T) {
	s := newStage(t, "kafka", life)
	s.once()
	parts := strings.Split(s.read("api.jwt"), ".")
	if len(parts) != 3 {
		t.Fatalf("the file has %d parts with dots between, want the three of a JWT", len(parts))
	}
	content, err := base64.RawURLEncoding.DecodeString(parts[1])
	s.must(err)
	var claims struct {
		Subject  string `json:"sub"`
		IssuedAt int64  `json:"iat"`
		Expiry   int64  `json:"exp"`
	}
	s.must(json.Unmarshal(content, &claims))
	if claims.Subject == "" || claims.IssuedAt == 0 || time.Now().After(time.Unix(claims.Expiry, 0)) {
		t.Errorf("the file's JWT has the claims %+v", claims)
	}
}

// TestSnowflake checks what Snowflake's drivers want of the file: the bare token, and in the
// strict ones that only its owner may read it. No driver runs here.
func TestSnowflake(t *testing.T) {
	s := newStage(t, "snowflake", life)
	s.once()
	if !s.tokens.Valid(s.read("snowflake.token")) {
		t.Error("the file is not the bare token")
	}
}
