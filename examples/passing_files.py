"""Passing files between steps: one step writes a dataset, the next one reads it and writes another.

`passing_files.yaml` is compiled from it:
kfp dsl compile --py examples/passing_files.py --output examples/passing_files.yaml
"""
# Paths come as text.
# ruff: noqa: PTH123

from kfp import dsl


@dsl.component(base_image="python:3.11-slim")
def write_numbers(count: int, numbers: dsl.Output[dsl.Dataset]) -> None:
    """Writes the numbers from one on, a line each."""
    with open(numbers.path, "w") as file:
        file.writelines(f"{number}\n" for number in range(1, count + 1))
    numbers.metadata["rows"] = count


@dsl.component(base_image="python:3.11-slim")
def keep_even(numbers: dsl.Input[dsl.Dataset], kept: dsl.Output[dsl.Dataset]) -> None:
    """Reads one file and writes another: only what can be halved."""
    with open(numbers.path) as source, open(kept.path, "w") as target:
        target.writelines(line for line in source if int(line) % 2 == 0)


@dsl.component(base_image="python:3.11-slim")
def add_up(numbers: dsl.Input[dsl.Dataset]) -> int:
    """Reads a file; what it returns is small, so it is a parameter and no file."""
    with open(numbers.path) as file:
        return sum(map(int, file))


@dsl.pipeline(name="passing-files", description="Hands files from step to step; small results are parameters.")
def passing_files(count: int = 10) -> int:
    """Writes numbers, keeps the even ones, adds them up.

    Args:
        count: How many numbers are written.
    """
    written = write_numbers(count=count)
    even = keep_even(numbers=written.outputs["numbers"])
    return add_up(numbers=even.outputs["kept"]).output
