"""The metrics of runs as a table: one row for each run, and columns with the shortest unambiguous names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

from kfadapter_grpc.client.notebook import table_html
from kfadapter_grpc.contract.artifacts import MetricsOfRun
from kfadapter_grpc.contract.run_outputs import RunMetric
from kfadapter_grpc.contract.spec import Json


class Rows(list["dict[str, Json | datetime]"]):
    """Rows with the same columns in the same order; a table in a notebook."""

    def _repr_html_(self) -> str:
        return table_html(self)


RUN_COLUMNS = ("run_id", "display_name", "state", "created_at")


def metrics_table(
    runs: Sequence[MetricsOfRun], parameters: Sequence[str] = (), on_warning: Callable[[str], None] | None = None
) -> Rows:
    """Returns the metrics of runs as a table, with columns for these parameters; reports those that were not read."""
    for run in runs:
        if on_warning and run.source and run.source.state.is_missing:
            on_warning(f"run {run.run_id}: {run.source.message}")
    of_parameters = {name: name if name not in RUN_COLUMNS else f"parameter/{name}" for name in parameters}
    taken = {*RUN_COLUMNS, *of_parameters.values()}
    columns = metric_names((metric for run in runs for metric in run.metrics), taken)
    rows = Rows()
    for run in runs:
        values = {metric_key(metric): metric.value for metric in run.metrics}
        rows.append(
            {
                "run_id": run.run_id,
                "display_name": run.display_name,
                "state": run.state.value,
                "created_at": run.created_at,
                **{column: run.parameters.get(name) for name, column in of_parameters.items()},
                **{column: values.get(key) for key, column in columns.items()},
            }
        )
    return rows


def named_metrics(metrics: Sequence[RunMetric]) -> dict[str, Json]:
    """Returns the metrics of one run by the names that a table of it has."""
    columns = metric_names(metrics)
    return {columns[metric_key(metric)]: metric.value for metric in metrics}


def metric_key(metric: RunMetric) -> tuple[str, str, str]:
    return metric.task, metric.output, metric.name


def metric_names(metrics: Iterable[RunMetric], taken: Collection[str] = ()) -> dict[tuple[str, str, str], str]:
    """Returns the names of the metrics of a table by their keys, in order of appearance; none of them is in `taken`."""
    keys = list(dict.fromkeys(map(metric_key, metrics)))
    uses: defaultdict[str, int] = defaultdict(int)
    for key in keys:
        for name in dict.fromkeys(_names(key)):
            uses[name] += 1
    return {
        key: next((name for name in _names(key) if uses[name] == 1 and name not in taken), _names(key)[-1])
        for key in keys
    }


def _names(key: tuple[str, str, str]) -> tuple[str, str, str]:
    task, output, name = key
    return name, f"{task}/{name}", f"{task}/{output}/{name}"
