"""Receives the bytes of an upload and makes a checked `PipelineFile` of them, without KFP and without gRPC messages."""
