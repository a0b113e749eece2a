package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	exitOK      = 0
	exitRefused = 1
	exitUsage   = 2
	exitMayPass = 3
)

// exitCode says by a number whether trying again makes sense.
func exitCode(err error) int {
	switch status.Code(err) {
	case codes.OK:
		return exitOK
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted:
		return exitMayPass
	default:
		return exitRefused
	}
}

// inWords tells a failure to a person: code and message, then lines for each google.rpc detail (AIP-193).
func inWords(err error) string {
	failed, isCall := status.FromError(err)
	if !isCall {
		return err.Error()
	}
	lines := []string{fmt.Sprintf("%s: %s", code.Code(failed.Code()), failed.Message())}
	for _, detail := range failed.Details() {
		lines = append(lines, detailInWords(detail)...)
	}
	return strings.Join(lines, "\n  ")
}

func detailInWords(detail any) []string {
	var lines []string
	switch detail := detail.(type) {
	case *errdetails.ErrorInfo:
		lines = append(lines, fmt.Sprintf("reason: %s (%s)", detail.GetReason(), detail.GetDomain()))
		for _, key := range slices.Sorted(maps.Keys(detail.GetMetadata())) {
			lines = append(lines, fmt.Sprintf("%s: %s", key, detail.GetMetadata()[key]))
		}
	case *errdetails.BadRequest:
		for _, broken := range detail.GetFieldViolations() {
			lines = append(lines, fmt.Sprintf("field %s: %s", broken.GetField(), broken.GetDescription()))
		}
	case *errdetails.ResourceInfo:
		lines = append(lines, fmt.Sprintf("resource: %s (%s)", detail.GetResourceName(), detail.GetResourceType()))
	case *errdetails.RetryInfo:
		lines = append(lines, fmt.Sprintf("retry after: %s", detail.GetRetryDelay().AsDuration()))
	case *errdetails.PreconditionFailure:
		for _, each := range detail.GetViolations() {
			lines = append(lines, fmt.Sprintf("state of %s: %s", each.GetSubject(), each.GetDescription()))
		}
	case *errdetails.QuotaFailure:
		for _, each := range detail.GetViolations() {
			lines = append(lines, fmt.Sprintf("quota of %s: %s", each.GetSubject(), each.GetDescription()))
		}
	default:
		lines = append(lines, fmt.Sprint(detail))
	}
	return lines
}
