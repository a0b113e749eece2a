package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// dialServer opens a channel, made by dial, to a server that runs until the test ends.
func dialServer(t *testing.T, calls *outgoing, options ...grpc.ServerOption) healthv1.HealthClient {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	healthv1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := dial(listener.Addr().String(), calls)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return healthv1.NewHealthClient(conn)
}

func newOutgoing(t *testing.T) *outgoing {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &outgoing{tokenFile: file, correlationID: "run-1", timeout: time.Minute, log: slog.New(slog.DiscardHandler)}
}

func TestEveryCallCarriesTokenIdsAndDeadline(t *testing.T) {
	var seen context.Context
	client := dialServer(t, newOutgoing(t),
		grpc.UnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			seen = ctx
			return handle(ctx, request)
		}),
		grpc.StreamInterceptor(func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			seen = stream.Context()
			return handle(server, stream)
		}),
	)
	kinds := map[string]func() error{
		"unary": func() error {
			_, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{})
			return err
		},
		"stream": func() error {
			watch, err := client.Watch(t.Context(), &healthv1.HealthCheckRequest{})
			if err != nil {
				return err
			}
			_, err = watch.Recv()
			return err
		},
	}
	patterns := map[string]string{
		"authorization":    `^Bearer secret$`,
		"x-correlation-id": `^run-1$`,
		"traceparent":      `^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`,
	}
	for kind, call := range kinds {
		t.Run(kind, func(t *testing.T) {
			if err := call(); err != nil {
				t.Fatal(err)
			}
			incoming, _ := metadata.FromIncomingContext(seen)
			for key, pattern := range patterns {
				if got := strings.Join(incoming.Get(key), ","); !regexp.MustCompile(pattern).MatchString(got) {
					t.Errorf("%s is %q, want %s", key, got, pattern)
				}
			}
			deadline, hasOne := seen.Deadline()
			if left := time.Until(deadline); !hasOne || left > time.Minute {
				t.Errorf("the server has %v left, want up to a minute", left)
			}
		})
	}
}

func TestUnavailableIsTriedAgain(t *testing.T) {
	attempts := 0
	client := dialServer(t, newOutgoing(t), grpc.UnaryInterceptor(
		func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if attempts++; attempts < 3 {
				return nil, status.Error(codes.Unavailable, "leaving")
			}
			return handle(ctx, request)
		},
	))
	if _, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil || attempts != 3 {
		t.Errorf("got %v after %d attempts, want an answer after 3", err, attempts)
	}
}

func TestFailuresAreToldInWords(t *testing.T) {
	details := []protoadapt.MessageV1{
		&errdetails.ErrorInfo{Reason: "USER_NOT_FOUND", Domain: "pyairtable.io", Metadata: map[string]string{"b": "2", "a": "1"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "name", Description: "is too long"}}},
		&errdetails.ResourceInfo{ResourceType: "user.pyairtable.io/User", ResourceName: "users/usr1"},
		&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Subject: "users/usr1", Description: "is deleted"}}},
		&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: "tenants/ten1", Description: "has no users left"}}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
	}
	failed, err := status.New(codes.NotFound, "no such user").WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"NOT_FOUND: no such user",
		"  reason: USER_NOT_FOUND (pyairtable.io)",
		"  a: 1",
		"  b: 2",
		"  field name: is too long",
		"  resource: users/usr1 (user.pyairtable.io/User)",
		"  state of users/usr1: is deleted",
		"  quota of tenants/ten1: has no users left",
		"  retry after: 1.5s",
	}, "\n")
	if got := inWords(failed.Err()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestExitCodes(t *testing.T) {
	for err, want := range map[error]int{
		nil:                                      exitOK,
		errors.New("no such file"):               exitRefused,
		status.Error(codes.NotFound, ""):         exitRefused,
		status.Error(codes.Unavailable, ""):      exitMayPass,
		status.Error(codes.DeadlineExceeded, ""): exitMayPass,
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v gives %d, want %d", err, got, want)
		}
	}
}

func TestWrongUsageIsExplained(t *testing.T) {
	for _, line := range []string{"", "nonsense", "me too", "check base:app1", "-page-size many users"} {
		var stderr bytes.Buffer
		code := execute(t.Context(), strings.Fields(line), &bytes.Buffer{}, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), "usage: go-client") {
			t.Errorf("%q gives %d and %q", line, code, stderr.String())
		}
	}
}
