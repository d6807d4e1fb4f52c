package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "example.com/kfadapter-go/gen/kfadapter/v1"
)

const chunkBytes = 256 << 10 // up to 4 MiB are accepted

// upload stores a file as a new pipeline or a new version of it.
// After an unknown outcome it is sent again with the same request id, so that it is never stored twice.
func upload(ctx context.Context, pipelines pb.PipelineServiceClient, path, name string) (*pb.UploadPipelineResponse, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	digest := sha256.New()
	size, err := io.Copy(digest, file)
	if err != nil {
		return nil, err
	}
	metadata := &pb.UploadPipelineMetadata{
		Name:       name,
		TotalBytes: &size,
		Sha256:     hex.EncodeToString(digest.Sum(nil)),
		RequestId:  rand.Text(),
	}
	for attempt := 1; ; attempt++ {
		response, err := send(ctx, pipelines, metadata, io.NewSectionReader(file, 0, size))
		if status.Code(err) != codes.Unavailable || attempt == 3 {
			return response, err
		}
		time.Sleep(time.Duration(attempt) * time.Second)
	}
}

func send(ctx context.Context, pipelines pb.PipelineServiceClient, metadata *pb.UploadPipelineMetadata, file io.Reader) (*pb.UploadPipelineResponse, error) {
	total := *metadata.TotalBytes
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(total/1_000_000)*2*time.Second)
	defer cancel()
	stream, err := pipelines.Upload(ctx)
	if err != nil {
		return nil, err
	}
	message := &pb.UploadPipelineRequest{Payload: &pb.UploadPipelineRequest_Metadata{Metadata: metadata}}
	for sent := int64(0); ; {
		// Send returns io.EOF if the adapter has ended the call: CloseAndRecv then returns why.
		if err := stream.Send(message); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		chunk := make([]byte, chunkBytes) // a new one each time: gRPC may still hold the last
		read, err := io.ReadFull(file, chunk)
		if err == io.EOF {
			break
		} else if err != nil && err != io.ErrUnexpectedEOF {
			return nil, err
		}
		sent += int64(read)
		fmt.Fprintf(os.Stderr, "sending %d of %d bytes (%d %%)\n", sent, total, 100*sent/total)
		message = &pb.UploadPipelineRequest{Payload: &pb.UploadPipelineRequest_Chunk{Chunk: chunk[:read]}}
	}
	return stream.CloseAndRecv()
}
