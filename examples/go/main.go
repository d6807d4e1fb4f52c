// A client of kfadapter in Go: get, upload, run, watch, download.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"go.opentelemetry.io/otel"
	"google.golang.org/protobuf/types/known/structpb"

	pb "example.com/kfadapter-go/gen/kfadapter/v1"
)

//go:generate buf generate ../../protos

const usage = `usage:
  kfadapter-go get PIPELINE
  kfadapter-go upload FILE PIPELINE
  kfadapter-go run PIPELINE [PARAMETERS]     parameters as JSON: '{"count": 7}'
  kfadapter-go watch RUN_ID
  kfadapter-go download RUN_ID FOLDER`

const unarySeconds = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, explain(err))
		os.Exit(1)
	}
}

func command(ctx context.Context, words []string) error {
	if len(words) < 2 {
		return errors.New(usage)
	}
	shutdown, err := startTracing(ctx)
	if err != nil {
		return err
	}
	defer shutdown()
	ctx, span := otel.Tracer("kfadapter-go").Start(ctx, words[0])
	defer span.End()
	connection, err := connect()
	if err != nil {
		return err
	}
	defer connection.Close()
	pipelines := pb.NewPipelineServiceClient(connection)
	runs := pb.NewRunServiceClient(connection)

	switch {
	case words[0] == "get" && len(words) == 2:
		return get(ctx, pipelines, words[1])
	case words[0] == "upload" && len(words) == 3:
		response, err := upload(ctx, pipelines, words[1], words[2])
		if err == nil {
			fmt.Printf("uploaded %s as %s of %s\n", response.Sha256, response.Version.Name, response.Pipeline.Name)
		}
		return err
	case words[0] == "run" && len(words) <= 3:
		return run(ctx, runs, words[1], append(words[2:], "{}")[0])
	case words[0] == "watch" && len(words) == 2:
		return watch(ctx, runs, words[1], printRun)
	case words[0] == "download" && len(words) == 3:
		return download(ctx, pb.NewArtifactServiceClient(connection), words[1], words[2])
	}
	return errors.New(usage)
}

func get(ctx context.Context, pipelines pb.PipelineServiceClient, name string) error {
	ctx, cancel := context.WithTimeout(ctx, unarySeconds)
	defer cancel()
	pipeline, err := pipelines.Get(ctx, &pb.GetPipelineRequest{
		Pipeline: &pb.GetPipelineRequest_Name{Name: name},
		View:     pb.View_VIEW_FULL,
	})
	if err != nil {
		return err
	}
	fmt.Printf("%s %s, versions: %d\n", pipeline.Name, pipeline.PipelineId, pipeline.GetVersionCount())
	for _, parameter := range pipeline.GetLatestVersion().GetSpec().GetParameters() {
		fmt.Printf("  %s %s = %v\n", parameter.Name, parameter.Type, parameter.DefaultValue.AsInterface())
	}
	return nil
}

// run starts a run and watches it.
func run(ctx context.Context, runs pb.RunServiceClient, pipeline, parameters string) error {
	request := &pb.CreateRunRequest{
		Pipeline:   &pb.CreateRunRequest_PipelineName{PipelineName: pipeline},
		Parameters: &structpb.Struct{},
		RequestId:  rand.Text(), // a repeated call starts no second run
	}
	if err := request.Parameters.UnmarshalJSON([]byte(parameters)); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, unarySeconds)
	defer cancel()
	started, err := runs.Create(within, request)
	if err != nil {
		return err
	}
	return watch(ctx, runs, started.RunId, printRun)
}

func printRun(run *pb.Run) {
	fmt.Printf("%s %s %s\n", run.RunId, run.State, run.Error)
}
