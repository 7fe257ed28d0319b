package workswith_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-policy-agent/opa/v1/plugins/rest"
	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/bearertokenauthextension"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/jwt"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	kubernetes "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// get does one request that has to succeed.
func (s *stage) get(client *http.Client, url string) {
	s.Helper()
	response, err := client.Get(url)
	s.must(err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	s.must(err)
	if response.StatusCode != http.StatusOK {
		s.Fatalf("the api answers with %s", response.Status)
	}
}

// TestKubernetesTokenFile reads a kubeconfig as kubectl does, and lets client-go's clock run to
// see how long it holds on to a token: a minute, less ten seconds, even if it is refused.
func TestKubernetesTokenFile(t *testing.T) {
	s := newStage(t, "kubernetes", life)
	s.once()
	config, err := clientcmd.BuildConfigFromFlags("", s.adapted("tokenfile.kubeconfig"))
	s.must(err)
	synctest.Test(t, func(t *testing.T) {
		var presented string
		answer := http.StatusOK
		config.TLSClientConfig = kubernetes.TLSClientConfig{} // nothing is sent, so that only time passes
		config.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			presented = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			return &http.Response{StatusCode: answer, Body: http.NoBody, Request: r}, nil
		})
		client, err := kubernetes.HTTPClientFor(config)
		s.must(err)
		presents := func(after time.Duration, status int) string {
			<-time.After(after)
			answer = status
			response, err := client.Get(config.Host)
			s.must(err)
			s.must(response.Body.Close())
			return presented
		}
		first := presents(0, http.StatusOK)
		s.once()
		if presents(49*time.Second, http.StatusOK) != first {
			t.Error("client-go reads the file sooner than after 50 seconds, so the documents are out of date")
		}
		second := presents(2*time.Second, http.StatusOK)
		if second == first || second != s.read("cluster.token") {
			t.Error("client-go does not present the file's new token after 51 seconds")
		}
		s.once()
		if presents(time.Second, http.StatusUnauthorized); presents(48*time.Second, http.StatusOK) != second {
			t.Error("client-go reads the file after a 401, so the documents are out of date")
		}
		if presents(2*time.Second, http.StatusOK) != s.read("cluster.token") {
			t.Error("client-go does not present the third token after 51 seconds")
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestKubernetesExecPlugin has client-go run an exec plugin, which prints the sink or asks the agent.
// It is run again when the credential's time is over, so these tokens live for seconds only.
func TestKubernetesExecPlugin(t *testing.T) {
	for _, file := range []string{"exec.kubeconfig", "socket.kubeconfig"} {
		t.Run(file, func(t *testing.T) {
			s := newStage(t, "kubernetes", 12*time.Second)
			s.start("cluster.json", "credagent.sock")
			config, err := clientcmd.BuildConfigFromFlags("", s.adapted(file))
			s.must(err)
			client, err := kubernetes.HTTPClientFor(config)
			s.must(err)
			s.presents(func() { s.get(client, config.Host) })
		})
	}
}

func TestOPA(t *testing.T) {
	s := newStage(t, "opa", life)
	s.start("api.token")
	var file struct {
		Services map[string]map[string]any
	}
	s.must(yaml.Unmarshal([]byte(s.read(s.name("opa.yaml"))), &file))
	service := file.Services["bundles"]
	service["name"] = "bundles"
	config, err := json.Marshal(service)
	s.must(err)
	client, err := rest.New(config, nil)
	s.must(err)
	s.presents(func() {
		response, err := client.Do(t.Context(), http.MethodGet, "/authz.tar.gz")
		s.must(err)
		s.must(response.Body.Close())
	})
}

// TestOpenTelemetry starts the collector's extension as its service would, and takes the exporter's
// part.
func TestOpenTelemetry(t *testing.T) {
	s := newStage(t, "opentelemetry", life)
	s.start("api.token")
	var file struct {
		Extensions map[string]map[string]any
	}
	s.must(yaml.Unmarshal([]byte(s.read(s.name("otelcol.yaml"))), &file))
	factory := bearertokenauthextension.NewFactory()
	config := factory.CreateDefaultConfig()
	s.must(confmap.NewFromStringMap(file.Extensions["bearertokenauth"]).Unmarshal(config))
	extension, err := factory.Create(t.Context(), extensiontest.NewNopSettings(factory.Type()), config)
	s.must(err)
	s.must(extension.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { s.must(extension.Shutdown(context.Background())) })
	// The extension reads the file in the background, and a request before that has no token.
	transport, err := extension.(extensionauth.HTTPClient).RoundTripper(s.api.Client().Transport)
	s.must(err)
	client := &http.Client{Transport: transport}
	s.until("the extension has read the file", func() bool {
		response, err := client.Get(s.api.URL)
		s.must(err)
		s.must(response.Body.Close())
		return response.StatusCode == http.StatusOK
	})
	s.presents(func() { s.get(client, s.api.URL) })
}

// TestGRPC calls a gRPC server with the token file's credentials. They read the file again for a
// call when the JWT has less than 90 seconds to live, as these have from the start.
func TestGRPC(t *testing.T) {
	s := newStage(t, "grpc", life)
	s.start("api.token")
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	t.Cleanup(server.Stop)
	s.api.serve(server.ServeHTTP)
	perRPC, err := jwt.NewTokenFileCallCredentials(s.path("api.token"))
	s.must(err)
	roots := x509.NewCertPool()
	roots.AddCert(s.api.Certificate())
	conn, err := grpc.NewClient(s.api.Listener.Addr().String(),
		grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, "")), grpc.WithPerRPCCredentials(perRPC))
	s.must(err)
	t.Cleanup(func() { s.must(conn.Close()) })
	client := grpc_health_v1.NewHealthClient(conn)
	s.presents(func() {
		_, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		s.must(err)
	})
}
