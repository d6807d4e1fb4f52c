"""KFP's JSON as types: what is decoded here is used, everything else is skipped without being built."""

from kfadapter_grpc.kfp.wire.pipelines import (
    CheapVersionJson,
    CheapVersionListJson,
    FullVersionJson,
    FullVersionListJson,
    PipelineJson,
    PipelineListJson,
    VersionJson,
    VersionListJson,
    decode_around_spec,
    visible,
)

__all__ = [
    "CheapVersionJson",
    "CheapVersionListJson",
    "FullVersionJson",
    "FullVersionListJson",
    "PipelineJson",
    "PipelineListJson",
    "VersionJson",
    "VersionListJson",
    "decode_around_spec",
    "visible",
]
