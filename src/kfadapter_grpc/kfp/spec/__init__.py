"""The contents of a pipeline spec, read from the JSON that KFP serves.

Only what is used is decoded; the rest, which is most of a spec, is skipped. KFP serves whatever was uploaded once, by
any SDK, so no structure is assumed: unexpected parts are listed by their paths, and the rest is shown.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from kfadapter_grpc.contract.errors import KfpError
from kfadapter_grpc.contract.spec import SpecSummary
from kfadapter_grpc.kfp.spec.argo import summarize_workflow
from kfadapter_grpc.kfp.spec.part import Part, Report
from kfadapter_grpc.kfp.spec.v2 import summarize_pipeline
from kfadapter_grpc.kfp.spec.values import UNREADABLE
from kfadapter_grpc.kfp.spec.values import weight as summary_weight

__all__ = ["summarize", "summary_weight"]


def summarize(spec_json: bytes) -> SpecSummary:
    """Summarizes a version's spec: a bare pipeline spec, the wrapper of it and a platform spec, or an Argo Workflow.

    A spec of 8 MB takes a fraction of a second, in many steps of some milliseconds, between which other threads run.
    Unexpected parts are listed in `unknown_parts`.
    """
    try:
        msgspec.json.decode(spec_json, type=msgspec.Raw)
    except UNREADABLE as error:
        raise KfpError("KFP served a pipeline spec that is no JSON.") from error
    report = Report()
    summary = _summary(Part(msgspec.Raw(spec_json), report))
    return replace(summary, unknown_parts=report.unknown)


def _summary(whole: Part) -> SpecSummary:
    platform = whole["platform_spec"].as_root()
    if "pipeline_spec" in whole and "root" not in whole:
        whole = whole.known("pipeline_spec platform_spec")["pipeline_spec"].as_root()
    if whole["apiVersion"].text().startswith("argoproj.io/") and whole["kind"].text() == "Workflow":
        return summarize_workflow(whole)
    if "pipelineInfo" in whole or "root" in whole:
        return summarize_pipeline(whole, platform)
    whole.note()
    return SpecSummary()
