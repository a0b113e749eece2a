package main

import (
	_ "embed"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/keepalive"
	_ "google.golang.org/grpc/xds" // knows xds:/// targets
)

// serviceConfig is the mesh's own policy, for channels that no control plane configures.
//
//go:embed service_config.json
var serviceConfig string

// dial opens a channel; it connects with the first call. With an xds:/// target the control plane says where the
// servers are, how calls are balanced and retried, and whether servers speak TLS; with any other target the channel
// brings that policy along. Never both: two retry policies would multiply.
func dial(target string, calls *outgoing) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(calls.unary),
		grpc.WithChainStreamInterceptor(calls.stream),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithIdleTimeout(0), // an idle channel forgets what the control plane told it
	}
	if !strings.HasPrefix(target, "xds:") {
		return grpc.NewClient(target, append(options,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultServiceConfig(serviceConfig),
			grpc.WithDisableServiceConfig(),
		)...)
	}
	transport, err := xds.NewClientCredentials(xds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	conn, err := grpc.NewClient(target, append(options, grpc.WithTransportCredentials(transport))...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	return conn, nil
}
