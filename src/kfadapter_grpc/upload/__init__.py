"""Receives the bytes of an upload and makes a checked `PipelineFile` of them, without KFP and without gRPC messages."""

from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.upload.receive import receive_file

__all__ = ["UploadLimits", "receive_file"]
