"""A pipeline of KFP v2 as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import PipelineFormat, SpecSummary
from kfadapter_grpc.kfp.spec.tree import grow
from kfadapter_grpc.kfp.spec.v2 import levels
from kfadapter_grpc.kfp.spec.v2.graph import Graph
from kfadapter_grpc.kfp.spec.v2.interface import artifacts, input_parameters, output_parameters

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.spec.part import Fields, Part

PIPELINE = levels.PIPELINE


def summarize_pipeline(top: Fields, platform_spec: Part) -> SpecSummary:
    """Summarizes a pipeline spec, with its platform spec where there is one."""
    info = top["pipelineInfo"].fields(levels.INFO)
    root = top["root"].fields(levels.ROOT)
    return SpecSummary(
        format=PipelineFormat.KFP_V2,
        name=info["name"].told_text(),
        description=info["description"].told_text(),
        parameters=input_parameters(root["inputDefinitions"]),
        schema_version=top["schemaVersion"].told_text(),
        sdk_version=top["sdkVersion"].told_text(),
        input_artifacts=artifacts(root["inputDefinitions"]),
        output_artifacts=artifacts(root["outputDefinitions"]),
        output_parameters=output_parameters(root["outputDefinitions"]),
        tasks=grow(Graph(top, platform_spec).root()),
    )
