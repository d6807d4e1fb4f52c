"""Up to ten runs side by side: what differs, a metric over runs, ROC curves over each other."""

import csv
import io
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kfadapter_console import page
from kfadapter_console.plots import classifications, metric_chart, outputs_of, roc_chart
from kfadapter_grpc.client import Run
from kfadapter_grpc.comparison import MAX_RUNS, MISSING, ComparedRow, RowKind, Value, compare_runs, read_runs
from kfadapter_grpc.times import shown_duration, shown_time

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""Text that begins so is a formula in a spreadsheet."""
_LONGEST = 200


def show(request: Request) -> Response:
    """The runs `run` side by side; the rows that differ unless `all` is set; the metric `metric`, the curve `curve`."""
    runs, query = _runs(request), request.query_params
    rows = compare_runs(runs) if runs else ()
    names = [run.display_name or run.run_id for run in runs]
    names = [
        f"{name} ({run.run_id[:8]})" if names.count(name) > 1 else name for name, run in zip(names, runs, strict=True)
    ]
    metrics = {row.name: row for row in sorted(rows, key=lambda row: not row.differs) if row.kind is RowKind.METRIC}
    found = [{name: one.roc_curve for name, one in classifications(outputs_of(run)) if one.roc_curve} for run in runs]
    curves = {name: name for of_run in found for name in of_run}
    metric, curve = (
        query[field] if query.get(field) in known else next(iter(known), "")
        for field, known in (("metric", metrics), ("curve", curves))
    )
    charts = []
    if metric:
        values = [value if isinstance(value, float) else None for value in metrics[metric].values]
        charts.append(metric_chart(metric, list(zip(names, values, strict=True))))
    if curve:
        charts.append(roc_chart(curve, [(name, one.get(curve, ())) for name, one in zip(names, found, strict=True)]))
    return page.render(
        request,
        "compare.html",
        runs=runs,
        rows=rows,
        shown=shown,
        all="all" in query,
        here="?" + urlencode([("run", run.run_id) for run in runs]),
        form=page.Form({"metric": metric, "curve": curve}),
        choices=[("metric", "Metric", {name: name for name in metrics}), ("curve", "ROC curve", curves)],
        charts=charts,
    )


def table(request: Request) -> Response:
    """All rows as CSV, with a mark by which spreadsheets know UTF-8."""
    runs, text = _runs(request), io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["kind", "name", "differs", *(run.run_id for run in runs)])
    writer.writerow(["fact", "display_name", "", *map(_cell, (run.display_name for run in runs))])
    for row in compare_runs(runs) if runs else ():
        writer.writerow([row.kind.value, _cell(row.name), row.differs, *map(_cell, row.values)])
    return Response(
        text.getvalue().encode("utf-8-sig"),
        media_type="text/csv",
        headers={"content-disposition": 'attachment; filename="runs.csv"'},
    )


def _runs(request: Request) -> list[Run]:
    """The runs of the address, oldest first."""
    ids = list(dict.fromkeys(filter(None, request.query_params.getlist("run"))))
    if len(ids) > MAX_RUNS:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"{len(ids)} runs are too many: compare up to {MAX_RUNS}.")
    found = read_runs(page.client(request), ids)
    return sorted(found, key=lambda run: run.created_at or datetime.min.replace(tzinfo=timezone.utc))


def shown(row: ComparedRow) -> list[str]:
    """Formats the values of a row: numbers short, unless they would look the same and are not."""
    texts = [*map(_text, row.values)]
    if row.differs and len({*texts}) == 1:
        return [repr(value) if isinstance(value, float) else _text(value) for value in row.values]
    return texts


def _text(value: Value) -> str:
    if value is MISSING:
        return "–"
    if isinstance(value, datetime):
        return shown_time(value)
    return shown_duration(value) if isinstance(value, timedelta) else page.shown_value(value, _LONGEST)


def _cell(value: Value) -> object:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULAS) else value
    if isinstance(value, datetime | timedelta):
        return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value.total_seconds()
    return "" if value is MISSING else value if isinstance(value, float) else page.shown_value(value)


ROUTES = [Route("/compare", show), Route("/compare.csv", table)]
