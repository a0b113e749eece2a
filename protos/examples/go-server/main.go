// Command go-server shows how a Go program becomes a service of PyAirtable Mesh: it takes its place from the
// environment, serves a contract and its health, verifies tokens, passes on what a request carries, and leaves quietly.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	commonv1 "github.com/pyairtable/pyairtable-protos/generated/go/pyairtable/common/v1"
)

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, log)
	stop()
	if err != nil {
		log.Error("go-server ends", "error", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then tells everybody that it leaves before it does.
func run(ctx context.Context, log *slog.Logger) error {
	place, err := placeFromEnvironment()
	if err != nil {
		return err
	}
	verify, err := newVerifier(place)
	if err != nil {
		return err
	}
	permission, err := dial("xds:///permission")
	if err != nil {
		return err
	}
	defer permission.Close()

	state := health.NewServer()
	calls := &incoming{verify: verify, log: log}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(calls.unary),
		grpc.ChainStreamInterceptor(calls.stream),
		grpc.MaxRecvMsgSize(1<<20),
		grpc.MaxConcurrentStreams(1000),
	)
	commonv1.RegisterDiagnosticsServiceServer(server, newDiagnostics(place, permission))
	reflection.Register(server)
	probes := grpc.NewServer()
	healthv1.RegisterHealthServer(probes, state)

	failed := make(chan error, 2)
	for address, each := range map[string]*grpc.Server{place.address: server, place.healthAddress: probes} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("another process may use the port: %w", err)
		}
		go func() { failed <- each.Serve(listener) }()
	}
	log.Info("go-server takes calls", "address", place.address)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	leave(place, state, server)
	probes.Stop()
	return nil
}

// leave ends in two stages: first no new calls are sent here, because health and then the mesh say so; then those that
// are under way are finished, as long as the drain time lasts.
func leave(place place, state *health.Server, server *grpc.Server) {
	state.Shutdown()
	time.Sleep(place.removal)
	drained := time.AfterFunc(place.drain, server.Stop)
	server.GracefulStop()
	drained.Stop()
}

// place is where the service is and whom it believes; `python -m pyairtable_laptop join`, or a chart, says so.
type place struct {
	address, healthAddress string
	jwksFile               string
	issuer, audience       string
	environment            string
	removal, drain         time.Duration
}

func placeFromEnvironment() (place, error) {
	var missing []error
	variable := func(name string) string {
		value := os.Getenv("PYAIRTABLE_" + name)
		if value == "" {
			missing = append(missing, fmt.Errorf("PYAIRTABLE_%s is not set: run it by `python -m pyairtable_laptop join`", name))
		}
		return value
	}
	seconds := func(name string) time.Duration {
		value := variable(name)
		length, err := time.ParseDuration(value + "s")
		if value != "" && err != nil {
			missing = append(missing, fmt.Errorf("PYAIRTABLE_%s: %w", name, err))
		}
		return length
	}
	host := variable("HOST")
	found := place{
		address:       net.JoinHostPort(host, variable("GRPC_PORT")),
		healthAddress: net.JoinHostPort(host, variable("HEALTH_PORT")),
		jwksFile:      variable("JWKS"),
		issuer:        variable("TOKEN_ISSUER"),
		audience:      variable("TOKEN_AUDIENCE"),
		environment:   variable("ENVIRONMENT"),
		removal:       seconds("REMOVAL_SECONDS"),
		drain:         seconds("DRAIN_SECONDS"),
	}
	return found, errors.Join(missing...)
}
