package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "example.com/kfadapter-go/gen/kfadapter/v1"
)

// watch calls changed with each state of a run until it has finished.
// When the stream breaks it reconnects with the etag that it holds, so that no state is reported twice or lost.
func watch(ctx context.Context, runs pb.RunServiceClient, id string, changed func(*pb.Run)) error {
	request := &pb.WatchRunsRequest{
		What:       &pb.WatchRunsRequest_Runs{Runs: &pb.RunIds{RunIds: []string{id}}},
		KnownEtags: map[string]string{},
	}
	for failures := 0; ; failures++ {
		stream, err := runs.Watch(ctx, request)
		for err == nil {
			var event *pb.RunEvent
			if event, err = stream.Recv(); err != nil {
				break
			}
			failures = 0
			switch event := event.Event.(type) {
			case *pb.RunEvent_Changed:
				request.KnownEtags[id] = event.Changed.Run.Etag
				changed(event.Changed.Run)
			case *pb.RunEvent_Gone:
				return fmt.Errorf("run %s does not exist", id)
			case *pb.RunEvent_Heartbeat:
				if !event.Heartbeat.KfpReachable {
					fmt.Fprintln(os.Stderr, "KFP is unreachable")
				}
			}
		}
		if err == io.EOF {
			return nil // finished
		}
		switch status.Code(err) {
		case codes.Unavailable, codes.ResourceExhausted: // restarts, broken connections, overload
		default:
			return err
		}
		if failures == 10 {
			return err
		}
		pause := min(5*time.Second, 200*time.Millisecond<<failures)
		fmt.Fprintf(os.Stderr, "watching again: %s\n", status.Convert(err).Message())
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
