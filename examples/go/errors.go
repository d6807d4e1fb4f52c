package main

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// reason returns why a call failed: a name of kfadapter.v1.ErrorReason without its prefix, which never changes.
// It is empty if the error is not the adapter's own, for example if the adapter is unreachable.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "kfadapter" {
			return info.Reason
		}
	}
	return ""
}

// explain returns all that an error carries, line by line.
func explain(err error) string {
	failed, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	lines := []string{fmt.Sprintf("%s: %s", failed.Code(), failed.Message())}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			lines = append(lines, "reason: "+detail.Reason)
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				lines = append(lines, fmt.Sprintf("field %s: %s", violation.Field, violation.Description))
			}
		case *errdetails.RetryInfo:
			lines = append(lines, "retry after: "+detail.RetryDelay.AsDuration().String())
		case *errdetails.RequestInfo:
			lines = append(lines, "request id: "+detail.RequestId)
		}
	}
	return strings.Join(lines, "\n  ")
}
