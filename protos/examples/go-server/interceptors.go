package main

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// passedOn are the metadata keys that travel from hop to hop; all others end here. See protos/README.md.
var passedOn = []string{"authorization", "x-correlation-id", "traceparent", "tracestate"}

var correlationID = regexp.MustCompile(`^[A-Za-z0-9._:/-]{1,128}$`)

// incoming is what happens to every call that is served, unary or stream.
type incoming struct {
	verify *verifier
	log    *slog.Logger
}

func (i *incoming) unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (answer any, err error) {
	err = i.serve(ctx, info.FullMethod, func(ctx context.Context) error {
		answer, err = handle(ctx, request)
		return err
	})
	return answer, err
}

func (i *incoming) stream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
) error {
	if strings.HasPrefix(info.FullMethod, "/grpc.reflection.") {
		return handle(server, stream)
	}
	return i.serve(stream.Context(), info.FullMethod, func(ctx context.Context) error {
		return handle(server, &served{stream, ctx})
	})
}

// serve authenticates the caller, and logs how the call ended. An error that is no status leaves without its text.
func (i *incoming) serve(ctx context.Context, method string, handle func(context.Context) error) error {
	begun := time.Now()
	who, err := i.verify.caller(ctx)
	if err == nil {
		err = handle(outgoing(context.WithValue(ctx, callerKey{}, who)))
	}
	if _, isStatus := status.FromError(err); !isStatus {
		i.log.ErrorContext(ctx, "failed", "method", method, "error", err)
		err = status.Error(codes.Internal, "internal error")
	}
	deadline, _ := ctx.Deadline()
	i.log.LogAttrs(ctx, slog.LevelInfo, "served",
		slog.String("method", strings.TrimPrefix(method, "/")),
		slog.String("code", code.Code(status.Code(err)).String()),
		slog.String("subject", who.subject),
		slog.String("tenant", who.tenant),
		slog.String("correlation_id", strings.Join(metadata.ValueFromIncomingContext(ctx, "x-correlation-id"), "")),
		slog.String("traceparent", strings.Join(metadata.ValueFromIncomingContext(ctx, "traceparent"), "")),
		slog.Float64("seconds", time.Since(begun).Seconds()),
		slog.Float64("seconds_left", max(0, time.Until(deadline).Seconds())),
	)
	return err
}

// outgoing makes the calls that a handler makes carry what its own call carried. The deadline goes with the context.
func outgoing(ctx context.Context) context.Context {
	for _, key := range passedOn {
		for _, value := range metadata.ValueFromIncomingContext(ctx, key) {
			if key != "x-correlation-id" || correlationID.MatchString(value) {
				ctx = metadata.AppendToOutgoingContext(ctx, key, value)
			}
		}
	}
	return ctx
}

// served is a stream whose context is ours.
type served struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *served) Context() context.Context { return s.ctx }
