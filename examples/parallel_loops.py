"""Parallel loops: the same step for every item, several at once, and steps that collect the results.

`parallel_loops.yaml` is compiled from it:
kfp dsl compile --py examples/parallel_loops.py --output examples/parallel_loops.yaml
"""
# A pipeline's defaults are never changed.
# ruff: noqa: B006, UP006, UP035

from typing import List

from kfp import dsl


@dsl.component(base_image="python:3.11-slim")
def train_once(rate: float, seed: int) -> dict:
    """Stands for a training: its loss depends on the learning rate, and a little on chance."""
    loss = (rate - 0.1) ** 2 + seed / 1000
    return {"rate": rate, "seed": seed, "loss": round(loss, 6)}


@dsl.component(base_image="python:3.11-slim")
def choose_best(trials: list) -> dict:
    """Takes the trial with the smallest loss."""
    return min(trials, key=lambda trial: trial["loss"])


@dsl.pipeline(name="parallel-loops", description="Tries learning rates and seeds, two at a time, and takes the best.")
def parallel_loops(rates: List[float] = [0.01, 0.1, 0.5], seeds: List[int] = [1, 2]) -> dict:
    """Trains with every rate and every seed, then chooses.

    Args:
        rates: The learning rates.
        seeds: What chance begins with, for each rate.
    """
    with dsl.ParallelFor(items=rates, name="each-rate", parallelism=2) as rate:
        with dsl.ParallelFor(items=seeds, name="each-seed") as seed:
            trial = train_once(rate=rate, seed=seed)
        best = choose_best(trials=dsl.Collected(trial.output))
    return choose_best(trials=dsl.Collected(best.output)).output
