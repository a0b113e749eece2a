package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	commonv1 "github.com/pyairtable/pyairtable-protos/generated/go/pyairtable/common/v1"
	permissionv1 "github.com/pyairtable/pyairtable-protos/generated/go/pyairtable/permission/v1"
	userv1 "github.com/pyairtable/pyairtable-protos/generated/go/pyairtable/user/v1"
)

// call is one use of a service; it prints what the service answers.
type call func(ctx context.Context, conn grpc.ClientConnInterface) error

func me(out *printer) call {
	return func(ctx context.Context, conn grpc.ClientConnInterface) error {
		user, err := userv1.NewUserServiceClient(conn).GetMe(ctx, &userv1.GetMeRequest{})
		if err != nil {
			return err
		}
		return out.print(user)
	}
}

// users reads page after page (AIP-158) and prints each user as soon as its page is there.
func users(out *printer, pageSize int) call {
	size := int32(min(max(pageSize, math.MinInt32), math.MaxInt32))
	return func(ctx context.Context, conn grpc.ClientConnInterface) error {
		client := userv1.NewUserServiceClient(conn)
		request := &userv1.ListUsersRequest{PageSize: size}
		for {
			page, err := client.ListUsers(ctx, request)
			if err != nil {
				return err
			}
			for _, user := range page.GetUsers() {
				if err := out.print(user); err != nil {
					return err
				}
			}
			if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
				return nil
			}
		}
	}
}

func check(out *printer, resource, permission string) call {
	return func(ctx context.Context, conn grpc.ClientConnInterface) error {
		request := &permissionv1.CheckPermissionRequest{Resource: resource, Permission: permission}
		answer, err := permissionv1.NewPermissionServiceClient(conn).CheckPermission(ctx, request)
		if err != nil {
			return err
		}
		return out.print(answer.GetDecision())
	}
}

// tail prints what happens in the tenant as it happens, up to limit events; 0 is no limit.
func tail(out *printer, limit *int) call {
	return func(ctx context.Context, conn grpc.ClientConnInterface) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the stream on the server too
		stream, err := commonv1.NewAuditServiceClient(conn).TailAuditEvents(ctx, &commonv1.TailAuditEventsRequest{})
		if err != nil {
			return err
		}
		for printed := 0; ; {
			some, err := stream.Recv()
			if err != nil {
				return err
			}
			for _, event := range some.GetAuditEvents() {
				if err := out.print(event); err != nil {
					return err
				}
				if printed++; printed == *limit {
					return nil
				}
			}
		}
	}
}

// printer writes a JSON object a line; goroutines share it.
type printer struct {
	mutex sync.Mutex
	to    io.Writer
}

func (p *printer) print(message proto.Message) error {
	line, err := protojson.Marshal(message)
	if err != nil {
		return err
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	_, err = fmt.Fprintf(p.to, "%s\n", line)
	return err
}
