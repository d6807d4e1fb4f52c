"""Shows records in a notebook: a table of their fields, metrics, and the graph of their tasks.

Notebooks call `_repr_html_` of what a cell returns. Records know nothing of HTML, so the methods are added here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from html import escape

from kfadapter_grpc.contract.pipelines import Pipeline, PipelineVersion
from kfadapter_grpc.contract.runs import Run
from kfadapter_grpc.contract.spec import Json, SpecSummary

_MAX_TEXT = 500


def run_html(run: Run) -> str:
    """Shows a run: state, error, parameters, metrics and, if it was read in full, its tasks coloured by state."""
    from kfadapter_grpc.client.metrics import named_metrics  # noqa: PLC0415  most programs never come here
    from kfadapter_grpc.folding import folded_tasks, merged_tasks  # noqa: PLC0415
    from kfadapter_grpc.graph import graph_of, svg  # noqa: PLC0415

    facts = {
        "Run": run.display_name,
        "Id": run.run_id,
        "State": run.state.value,
        "Error": run.error,
        "Warnings": "\n".join(run.warnings),
        "Created": run.created_at,
        "Finished": run.finished_at,
        "Labels": dict(run.labels),
    }
    parts = [_facts(facts), _facts(run.parameters, "Parameters"), _facts(named_metrics(run.metrics), "Metrics")]
    if run.tasks:
        merged, now = merged_tasks(run), datetime.now(timezone.utc)
        texts = {path: outcome.words(now) for path, outcome in merged.items()}
        colors = {path: outcome.state.name.lower() for path, outcome in merged.items()}
        parts.append(svg(graph_of(folded_tasks(run), states=texts), f"Tasks of {run.display_name}", states=colors))
    return "".join(parts)


def pipeline_html(pipeline: Pipeline) -> str:
    """Shows a pipeline and the graph of its latest version."""
    facts = {
        "Pipeline": pipeline.name,
        "Display name": pipeline.display_name if pipeline.display_name != pipeline.name else "",
        "Id": pipeline.pipeline_id,
        "Description": pipeline.description,
        "Tags": dict(pipeline.tags),
        "Created": pipeline.created_at,
        "Versions": pipeline.version_count,
    }
    return _facts(facts) + (version_html(pipeline.latest_version) if pipeline.latest_version else "")


def version_html(version: PipelineVersion) -> str:
    """Shows a version: its parameters and its graph."""
    facts = {"Version": version.name, "Id": version.pipeline_version_id, "Created": version.created_at}
    return _facts(facts) + (_spec_html(version.spec, version.name) if version.spec else "")


def table_html(rows: Sequence[Mapping[str, object]]) -> str:
    if not rows:
        return "<p>No rows.</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_text(value)}</td>" for value in row.values()) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _spec_html(spec: SpecSummary, title: str) -> str:
    from kfadapter_grpc.graph import graph_of, svg  # noqa: PLC0415

    parameters: Iterable[dict[str, Json]] = (
        {
            "Parameter": parameter.name,
            "Type": parameter.type.value,
            "Default": parameter.default,
            "Description": parameter.description,
        }
        for parameter in spec.parameters
    )
    table = table_html([*parameters]) if spec.parameters else ""
    return table + (svg(graph_of(spec.tasks), f"Tasks of {title}") if spec.tasks else "")


def _facts(facts: Mapping[str, object], title: str = "") -> str:
    rows = "".join(
        f'<tr><th style="text-align: left">{escape(name)}</th><td style="text-align: left">{_text(value)}</td></tr>'
        for name, value in facts.items()
        if title or value not in ("", None, {})
    )
    return f"<table>{f'<caption>{title}</caption>' if title else ''}<tbody>{rows}</tbody></table>" if rows else ""


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return escape(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…").replace("\n", "<br>")


def register() -> None:
    for kind, show in ((Run, run_html), (Pipeline, pipeline_html), (PipelineVersion, version_html)):
        setattr(kind, "_repr_html_", show)  # noqa: B010  which mypy would not take as an assignment
