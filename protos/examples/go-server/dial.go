package main

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/keepalive"
	_ "google.golang.org/grpc/xds" // knows xds:/// targets
)

// dial opens a channel to another service, found, balanced and retried as the control plane says.
func dial(target string) (*grpc.ClientConn, error) {
	transport, err := xds.NewClientCredentials(xds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(transport),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithIdleTimeout(0), // an idle channel forgets what the control plane told it
	)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	return conn, nil
}
