"""Up to ten runs side by side: what differs, a metric over runs, ROC curves over each other."""

import csv
import io
from datetime import datetime, timedelta, timezone
from http import HTTPStatus

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import Response

from kfadapter_console import page
from kfadapter_console.plots import artifacts_of, classifications, metric_chart, roc_chart
from kfadapter_grpc.client import Client, Run
from kfadapter_grpc.comparison import MAX_RUNS, MISSING, ComparedRow, RowKind, Value, compare_runs, plain, read_runs
from kfadapter_grpc.times import shown_duration, shown_time

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""How text begins that spreadsheets compute."""
_MAX_VALUE_LENGTH = 200


def show(client: Client, query: QueryParams) -> page.Values:
    """Compares the runs `run`: rows that differ, or `all`; plots of the metric `metric` and the curve `curve`."""
    runs = _runs(client, query)
    rows = compare_runs(runs) if runs else ()
    ids, names = [run.run_id for run in runs], [run.display_name or run.run_id for run in runs]
    names = [f"{name} ({id_[:8]})" if names.count(name) > 1 else name for name, id_ in zip(names, ids, strict=True)]
    metrics = {row.name: row for row in sorted(rows, key=lambda row: not row.differs) if row.kind is RowKind.METRIC}
    curves = [
        {name: one.roc_curve for name, one in classifications(artifacts_of(run)) if one.roc_curve} for run in runs
    ]
    options = {
        "metric": {name: name for name in metrics},
        "curve": {name: name for of_run in curves for name in of_run},
    }
    chosen = {
        field: query[field] if query.get(field) in known else next(iter(known), "") for field, known in options.items()
    }
    plots = []
    if metric := chosen["metric"]:
        values = [value if isinstance(value, float) else None for value in metrics[metric].values]
        plots.append(metric_chart(metric, list(zip(names, values, strict=True))))
    if curve := chosen["curve"]:
        plots.append(roc_chart(curve, [(name, one.get(curve, ())) for name, one in zip(names, curves, strict=True)]))
    return {
        "runs": runs,
        "rows": rows,
        "format_row": format_row,
        "all": "all" in query,
        "form": page.Form(chosen),
        "options": options,
        "plots": plots,
    }


def table(client: Client, query: QueryParams) -> Response:
    """Sends all rows as CSV, with a byte order mark by which spreadsheets recognize UTF-8."""
    runs, text = _runs(client, query), io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["kind", "name", "differs", *(run.run_id for run in runs)])
    writer.writerow(["fact", "display_name", "", *(_cell(run.display_name) for run in runs)])
    for row in compare_runs(runs) if runs else ():
        writer.writerow([row.kind.value, _cell(row.name), row.differs, *map(_cell, row.values)])
    return page.attachment([text.getvalue().encode("utf-8-sig")], "runs.csv", "text/csv")


def _runs(client: Client, query: QueryParams) -> list[Run]:
    """Returns the runs of the address, oldest first."""
    ids = list(dict.fromkeys(filter(None, query.getlist("run"))))
    if len(ids) > MAX_RUNS:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"{len(ids)} runs are too many: compare up to {MAX_RUNS}.")
    runs = read_runs(client, ids)
    return sorted(runs, key=lambda run: run.created_at or datetime.min.replace(tzinfo=timezone.utc))


def format_row(row: ComparedRow) -> list[str]:
    """Formats the values of a row: numbers short, unless they differ and would look the same."""
    texts = [*map(_text, row.values)]
    if row.differs and len({*texts}) == 1:
        return [repr(value) if isinstance(value, float) else _text(value) for value in row.values]
    return texts


def _text(value: Value) -> str:
    if isinstance(value, datetime):
        return shown_time(value)
    if isinstance(value, timedelta):
        return shown_duration(value)
    return "–" if value is MISSING else page.format_value(value, _MAX_VALUE_LENGTH)


def _cell(value: Value) -> object:
    """Returns a value for a CSV file: numbers exactly, and no text as a formula."""
    written = plain(value)
    if isinstance(written, str):
        return f"'{written}" if written.startswith(_FORMULAS) else written
    return written if isinstance(written, float) else page.format_value(written)


ROUTES = [page.view("/compare", show, "compare.html"), page.view("/compare.csv", table)]
