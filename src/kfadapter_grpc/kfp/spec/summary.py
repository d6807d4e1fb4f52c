"""Tells what kind of spec there is, and lets its reader summarize it."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from kfadapter_grpc.contract.errors import KfpError
from kfadapter_grpc.contract.spec import SpecSummary
from kfadapter_grpc.kfp.spec.argo.workflow import WORKFLOW, summarize_workflow
from kfadapter_grpc.kfp.spec.level import ANY, level
from kfadapter_grpc.kfp.spec.part import UNREADABLE, Part
from kfadapter_grpc.kfp.spec.report import Report
from kfadapter_grpc.kfp.spec.v2.pipeline import PIPELINE, summarize_pipeline

_ARGO_GROUP = "argoproj.io/"
_WRAPPER = level("pipeline_spec platform_spec")


def summarize(spec_json: bytes) -> SpecSummary:
    """Reads a version's spec.

    A spec of 8 MB takes a fraction of a second, in many steps of some milliseconds, between which other threads run.

    Args:
        spec_json: A bare pipeline spec, the wrapper of pipeline and platform spec, or an Argo Workflow.

    Returns:
        What it says; parts that are not as expected are named in `unknown_parts`.

    Raises:
        KfpError: The bytes are no JSON.
    """
    try:
        msgspec.json.decode(spec_json, type=msgspec.Raw)
    except UNREADABLE as error:
        raise KfpError("KFP served a pipeline spec that is no JSON.") from error
    report = Report()
    summary = _summary(Part(msgspec.Raw(spec_json), report))
    return replace(summary, unknown_parts=report.unknown)


def _summary(whole: Part) -> SpecSummary:
    top = whole.fields(ANY)
    platform = top["platform_spec"].standing_alone()
    if "pipeline_spec" in top and "root" not in top:
        whole.fields(_WRAPPER)
        inner = top["pipeline_spec"]
        top = inner.fields(ANY)
        whole = inner.standing_alone()
    is_argo = top["apiVersion"].text().startswith(_ARGO_GROUP) and top["kind"].text() == "Workflow"
    if is_argo:
        return summarize_workflow(whole.fields(WORKFLOW))
    if "pipelineInfo" in top or "root" in top:
        return summarize_pipeline(whole.fields(PIPELINE), platform)
    whole.note()
    return SpecSummary()
