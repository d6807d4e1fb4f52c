package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "example.com/kfadapter-go/gen/kfadapter/v1"
)

// download writes the files of a run's artifacts into a folder, each named by its artifact; folders arrive as tar archives.
func download(ctx context.Context, artifacts pb.ArtifactServiceClient, runID, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	request := &pb.ListArtifactsRequest{RunId: runID}
	for {
		page, err := artifacts.List(ctx, request)
		if err != nil {
			return err
		}
		for _, artifact := range page.Artifacts {
			// An id may hold a slash; ids and names come from pods, so they name files only by their last part.
			path := filepath.Join(folder, filepath.Base(artifact.ArtifactId)+"-"+filepath.Base(artifact.Name))
			switch size, err := read(ctx, artifacts, artifact, path); {
			case reason(err) == "ARTIFACT_NOT_READABLE": // metrics, for example, have no file
				fmt.Fprintf(os.Stderr, "%s: %s\n", artifact.Name, status.Convert(err).Message())
			case err != nil:
				return err
			default:
				fmt.Printf("%s %d bytes %s\n", artifact.Name, size, path)
			}
		}
		if page.NextPageToken == "" {
			return nil
		}
		request.PageToken = page.NextPageToken
	}
}

// read writes an artifact to a file. A broken stream is continued at the byte where it broke; an archive starts again.
func read(ctx context.Context, artifacts pb.ArtifactServiceClient, artifact *pb.RunArtifact, path string) (offset int64, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".part-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name()) // if it was not renamed
	defer file.Close()
	for attempt := 1; ; attempt++ {
		offset, err = readFrom(ctx, artifacts, artifact, file, offset)
		if status.Code(err) != codes.Unavailable || attempt == 5 {
			break
		}
		time.Sleep(time.Duration(attempt) * 200 * time.Millisecond)
	}
	if err == nil {
		err = errors.Join(file.Close(), os.Rename(file.Name(), path))
	}
	return offset, err
}

func readFrom(ctx context.Context, artifacts pb.ArtifactServiceClient, artifact *pb.RunArtifact, file *os.File, offset int64) (int64, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the stream if a write fails
	defer cancel()
	stream, err := artifacts.Read(ctx, &pb.ReadArtifactRequest{RunId: artifact.RunId, ArtifactId: artifact.ArtifactId, Offset: offset})
	if err != nil {
		return offset, err
	}
	archive := false
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return offset, nil
		} else if err != nil && archive {
			return 0, err
		} else if err != nil {
			return offset, err
		}
		if content := message.GetContent(); content != nil {
			archive = content.IsDirectory
			continue
		}
		written, err := file.WriteAt(message.GetChunk(), offset)
		if err != nil {
			return offset, err
		}
		offset += int64(written)
	}
}
