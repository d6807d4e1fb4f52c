package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // checks the health of each adapter behind the name, as serviceConfig requests
	"google.golang.org/grpc/keepalive"
)

// serviceConfig spreads calls over all healthy adapters behind a name, and repeats reads while none is reachable.
// Writes are repeated by upload and run, with a request id. Watch continues by itself.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "healthCheckConfig": {"serviceName": ""},
  "methodConfig": [{
    "name": [
      {"service": "kfadapter.v1.PipelineService", "method": "Get"},
      {"service": "kfadapter.v1.RunService", "method": "Get"},
      {"service": "kfadapter.v1.ArtifactService"}
    ],
    "retryPolicy": {
      "maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

// connect returns a connection by the environment variables that the kfadapter command reads, too.
func connect() (*grpc.ClientConn, error) {
	target := os.Getenv("KFADAPTER_TARGET")
	if target == "" {
		target = "localhost:50051"
	}
	options := []grpc.DialOption{
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()), // does nothing unless startTracing set a provider
		// A watch has no deadline: pings detect a dead connection. The adapter allows one every 10 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
	}
	transport, err := transportCredentials()
	if err != nil {
		return nil, err
	}
	options = append(options, grpc.WithTransportCredentials(transport))
	if file := os.Getenv("KFADAPTER_CLIENT_TOKEN_FILE"); file != "" {
		options = append(options, grpc.WithPerRPCCredentials(tokenFile(file)))
	}
	return grpc.NewClient(target, options...)
}

// transportCredentials returns TLS if a CA or KFADAPTER_TLS is set, with the client's certificate if it has one.
func transportCredentials() (credentials.TransportCredentials, error) {
	ca := os.Getenv("KFADAPTER_CA")
	if ca == "" && os.Getenv("KFADAPTER_TLS") == "" {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{ServerName: os.Getenv("KFADAPTER_SERVER_NAME")}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool() // otherwise the system's authorities
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	}
	if file := os.Getenv("KFADAPTER_CLIENT_CERTIFICATE"); file != "" {
		pair, err := tls.LoadX509KeyPair(file, os.Getenv("KFADAPTER_CLIENT_KEY"))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}

// tokenFile sends the token in a file, which is read for each call because tokens are renewed.
type tokenFile string

func (file tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := os.ReadFile(string(file))
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(token))}, err
}

// RequireTransportSecurity keeps gRPC from sending the token without TLS.
func (tokenFile) RequireTransportSecurity() bool { return true }

// startTracing exports traces if OTEL_EXPORTER_OTLP_ENDPOINT is set; the returned function sends what is left.
func startTracing(ctx context.Context) (func(), error) {
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return func() {}, nil
	}
	exporter, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, err
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter)) // named by OTEL_SERVICE_NAME
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	return func() {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		provider.Shutdown(within) // without a collector, the trace is lost
	}, nil
}
