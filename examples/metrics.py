"""Metrics: figures of a run that can be compared with those of other runs.

`metrics.yaml` is compiled from it: kfp dsl compile --py examples/metrics.py --output examples/metrics.yaml
"""
# Paths come as text.
# ruff: noqa: PTH123

from kfp import dsl


@dsl.component(base_image="python:3.11-slim")
def make_points(points: dsl.Output[dsl.Dataset]) -> None:
    """Writes points that lie near the line y = 2 x."""
    with open(points.path, "w") as file:
        file.write("1,2.1\n2,3.9\n3,6.2\n4,7.8\n")


@dsl.component(base_image="python:3.11-slim")
def evaluate(points: dsl.Input[dsl.Dataset], slope: float, metrics: dsl.Output[dsl.Metrics]) -> float:
    """Says how far the points lie from the line y = slope x, on average and at worst."""
    with open(points.path) as file:
        pairs = [tuple(map(float, line.split(","))) for line in file]
    distances = [abs(y - slope * x) for x, y in pairs]
    mean = round(sum(distances) / len(distances), 6)
    metrics.log_metric("mean_error", mean)
    metrics.log_metric("worst_error", round(max(distances), 6))
    metrics.log_metric("points", len(pairs))
    return mean


@dsl.pipeline(name="metrics", description="Measures how well a line fits, and keeps the figures with the run.")
def metrics(slope: float = 2.0) -> float:
    """Makes points and measures.

    Args:
        slope: How steep the line is that they are compared with.
    """
    return evaluate(points=make_points().outputs["points"], slope=slope).outputs["Output"]
