"""Human-readable comparisons: runs side by side, and what changed between two versions."""

from __future__ import annotations

from datetime import datetime, timedelta
from difflib import unified_diff
from io import BytesIO
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.listings import print_csv
from kfadapter_grpc.cli.run_view import shown_value
from kfadapter_grpc.comparison import Missing, compare_runs, compare_specs, plain
from kfadapter_grpc.contract.spec import SpecSummary
from kfadapter_grpc.pipeline_yaml import write_yaml
from kfadapter_grpc.times import shown_duration, shown_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.cli.options import TableFormat
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.comparison import ComparedRow, SpecChange, Value
    from kfadapter_grpc.contract.pipelines import PipelineVersion
    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.contract.spec import Json

_NARROW = 12
_SHORT_ID = 8
"""The minimum number of characters of an id; more if ids share these."""
_CODE = "the code and the arguments of containers are not compared; -o diff compares the files line by line"


def print_compared(runs: Sequence[Run], style: TableFormat, *, every: bool) -> None:
    """Prints runs side by side; a table omits equal rows, unless `every` is set."""
    rows = compare_runs(runs)
    if style == "json":
        documents: Json = [{"run_id": run.run_id, "display_name": run.display_name} for run in runs]
        out.print_document({"runs": documents, "rows": [_row_json(runs, row) for row in rows]}, style)
    elif style == "csv":
        head = ("kind", "name", "differs", *(run.run_id for run in runs))
        print_csv(head, ((row.kind, row.name, row.differs, *map(_cell, row.values)) for row in rows))
    else:
        _print_rows(runs, rows, every=every)


def _print_rows(runs: Sequence[Run], rows: Sequence[ComparedRow], *, every: bool) -> None:
    mark = "≠" if out.is_utf8() else "*"
    titles = [f"RUN {number}" for number in range(1, len(runs) + 1)]
    ids = [run.run_id for run in runs]
    enough = next(size for size in range(_SHORT_ID, 256) if len({run_id[:size] for run_id in ids}) == len({*ids}))
    cells = [
        ("", "", "name", *(run.display_name for run in runs)),
        ("", "", "id", *(run_id[:enough] for run_id in ids)),
        *(
            (mark if row.differs else "", row.kind.value, row.name, *map(_format_value, row.values))
            for row in rows
            if row.differs or every
        ),
    ]
    steps = (
        *(out.Shrink(title, _NARROW) for title in reversed(titles)),
        out.Shrink("NAME", _NARROW),
        out.Shrink("KIND", 0),
    )
    out.print_table((mark, "KIND", "NAME", *titles), cells, steps=steps)
    equal = sum(not row.differs for row in rows)
    if equal and not every:
        out.note(f"{equal} equal values are not shown; --all shows them")


def _format_value(value: Value) -> str:
    if isinstance(value, Missing):
        return "-"
    if isinstance(value, datetime):
        return shown_time(value)
    return shown_duration(value) if isinstance(value, timedelta) else shown_value(value)


def _row_json(runs: Sequence[Run], row: ComparedRow) -> dict[str, Json]:
    """Makes the JSON object of a row; the values by the ids of the runs, without those that are missing."""
    pairs = zip(runs, row.values, strict=True)
    values = {run.run_id: plain(value) for run, value in pairs if not isinstance(value, Missing)}
    return {"kind": row.kind.value, "name": row.name, "differs": row.differs, "values": values}


def _cell(value: Value) -> Json:
    """Returns a value for a CSV file, where null differs from a missing one."""
    return "null" if value is None else plain(value)


# --- versions -------------------------------------------------------------------------------------------------------


def print_changes(old: PipelineVersion, new: PipelineVersion, style: TableFormat) -> None:
    changes = compare_specs(old.spec or SpecSummary(), new.spec or SpecSummary())
    if style == "json":
        versions: Json = [
            {"pipeline_version_id": version.pipeline_version_id, "name": version.name} for version in (old, new)
        ]
        out.print_document({"versions": versions, "changes": [_change_json(change) for change in changes]}, style)
    elif style == "csv":
        sides = ((_cell(one.before), _cell(one.after)) for one in changes)
        rows = [(one.kind, one.name, one.change, one.field, *pair) for one, pair in zip(changes, sides, strict=True)]
        print_csv(("kind", "name", "change", "field", "before", "after"), rows)
    elif changes:
        head = ("PART", "NAME", "CHANGE", f"BEFORE: {old.name}", f"AFTER: {new.name}")
        steps = (
            out.Shrink(head[3], _NARROW),
            out.Shrink(head[4], _NARROW),
            out.Shrink("NAME", _NARROW),
            out.Shrink("PART", 0),
        )
        out.print_table(head, [_change_row(change) for change in changes], steps=steps)
        out.note(_CODE)
    elif old.sha256 and old.sha256 == new.sha256:
        out.note(f"{old.name} and {new.name} are the same file")
    else:
        out.note(f"parameters, artifacts and tasks are equal; {_CODE}")


def _change_row(change: SpecChange) -> tuple[str, ...]:
    sides = (_side(side, is_part=not change.field) for side in (change.before, change.after))
    return change.kind.value.replace("_", " "), change.name, change.field or change.change.value, *sides


def _side(value: Json | Missing, *, is_part: bool) -> str:
    """Formats a side of a change: the fields of a part, or a value."""
    if isinstance(value, Missing):
        return "" if is_part else "-"
    if is_part and isinstance(value, dict):
        return " ".join(f"{name}={shown_value(field)}" for name, field in value.items())
    return shown_value(value)


def _change_json(change: SpecChange) -> dict[str, Json]:
    """Makes the JSON object of a change, without the side that is missing."""
    sides = {"before": change.before, "after": change.after}
    return {
        "kind": change.kind.value,
        "name": change.name,
        "change": change.change.value,
        "field": change.field,
        **{side: value for side, value in sides.items() if not isinstance(value, Missing)},
    }


def print_changed_lines(client: Client, old: PipelineVersion, new: PipelineVersion) -> None:
    """Prints the lines that differ between the files of two versions, as YAML with code in blocks."""
    files: list[list[str]] = []
    for version in (old, new):
        stored, written = BytesIO(), BytesIO()
        client.pipelines.download(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id, to=stored
        )
        stored.seek(0)
        write_yaml(stored, written)
        files.append(written.getvalue().decode().split("\n"))
    lines = list(unified_diff(files[0], files[1], old.name, new.name, lineterm=""))
    out.print_names(lines)
    if not lines:
        out.note(f"the pipelines in {old.name} and {new.name} are the same")
