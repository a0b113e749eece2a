package main

import (
	"context"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	commonv1 "github.com/pyairtable/pyairtable-protos/generated/go/pyairtable/common/v1"
)

const serviceName = "pyairtable.common.v1.DiagnosticsService"

// diagnostics serves the contract that every service of the platform has.
type diagnostics struct {
	commonv1.UnimplementedDiagnosticsServiceServer
	place      place
	started    time.Time
	permission commonv1.DiagnosticsServiceClient
}

func newDiagnostics(place place, permission grpc.ClientConnInterface) *diagnostics {
	return &diagnostics{
		place:      place,
		started:    time.Now(),
		permission: commonv1.NewDiagnosticsServiceClient(permission),
	}
}

func (d *diagnostics) GetServiceInfo(context.Context, *commonv1.GetServiceInfoRequest) (*commonv1.ServiceInfo, error) {
	return &commonv1.ServiceInfo{
		Service:      "go-server",
		Build:        &commonv1.BuildInfo{RuntimeVersion: runtime.Version()},
		StartTime:    timestamppb.New(d.started),
		Environment:  d.place.environment,
		GrpcServices: []string{serviceName},
	}, nil
}

// GetHealthReport asks a service in Python, on behalf of whoever asks here.
func (d *diagnostics) GetHealthReport(ctx context.Context, _ *commonv1.GetHealthReportRequest) (*commonv1.HealthReport, error) {
	begun := time.Now()
	permission := &commonv1.DependencyHealth{
		Name: "permission", State: commonv1.HealthState_HEALTH_STATE_HEALTHY, Required: true,
	}
	if _, err := d.permission.GetServiceInfo(ctx, &commonv1.GetServiceInfoRequest{}); err != nil {
		permission.State = commonv1.HealthState_HEALTH_STATE_UNHEALTHY
		permission.Message = "permission does not answer: see whether it runs with `meshctl status`"
	}
	permission.CheckTime, permission.Latency = timestamppb.New(begun), durationpb.New(time.Since(begun))
	return &commonv1.HealthReport{
		Service:      serviceName,
		State:        permission.GetState(),
		Dependencies: []*commonv1.DependencyHealth{permission},
		ReportTime:   timestamppb.Now(),
	}, nil
}
