package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// outgoing is what every call of a channel carries, unary or stream, and where it is logged.
type outgoing struct {
	tokenFile     string
	correlationID string
	timeout       time.Duration
	log           *slog.Logger
}

func (o *outgoing) unary(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	ctx, finish, err := o.begin(ctx, method)
	if err != nil {
		return err
	}
	return invoke(ctx, method, request, reply, conn, append(options, finish...)...)
}

func (o *outgoing) stream(
	ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, method string,
	open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, finish, err := o.begin(ctx, method)
	if err != nil {
		return nil, err
	}
	return open(ctx, description, conn, method, append(options, finish...)...)
}

// begin gives a call its metadata and its deadline; the options release the deadline and log the call when it ends.
// A deadline of the caller's own stays, where it is the earlier one.
func (o *outgoing) begin(ctx context.Context, method string) (context.Context, []grpc.CallOption, error) {
	token, err := bearer(o.tokenFile)
	if err != nil {
		return nil, nil, err
	}
	traceID := randomHex(16)
	ctx = metadata.AppendToOutgoingContext(ctx,
		"x-correlation-id", o.correlationID,
		"traceparent", fmt.Sprintf("00-%s-%s-01", traceID, randomHex(8)),
	)
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", token)
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	begun, server := time.Now(), new(peer.Peer)
	ended := func(err error) {
		cancel()
		o.log.LogAttrs(ctx, slog.LevelInfo, "called",
			slog.String("method", strings.TrimPrefix(method, "/")),
			slog.String("code", code.Code(status.Code(err)).String()),
			slog.Float64("seconds", time.Since(begun).Seconds()),
			slog.String("server", address(server)),
			slog.String("correlation_id", o.correlationID),
			slog.String("trace_id", traceID),
		)
	}
	return ctx, []grpc.CallOption{grpc.Peer(server), grpc.OnFinish(ended)}, nil
}

// bearer reads the token anew for each call: whoever issues it replaces the file before the token expires.
func bearer(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return "", status.Errorf(codes.Unauthenticated, "the token cannot be read: %v", err)
	}
	return "Bearer " + strings.TrimSpace(string(token)), nil
}

func address(server *peer.Peer) string {
	if server.Addr == nil {
		return ""
	}
	return server.Addr.String()
}

func randomHex(bytes int) string {
	random := make([]byte, bytes)
	rand.Read(random) // never fails, by its documentation
	return hex.EncodeToString(random)
}
