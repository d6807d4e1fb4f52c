"""Requests for CPU, memory and a GPU: what a step requires of its node.

`resources.yaml` is compiled from it: kfp dsl compile --py examples/resources.py --output examples/resources.yaml
"""
# The source of each component travels alone, so its imports stand inside.
# ruff: noqa: PLC0415

from kfp import dsl


@dsl.component(base_image="python:3.11-slim")
def prepare(rows: int) -> int:
    """Stands for work that takes much memory."""
    return sum(range(rows))


@dsl.component(base_image="python:3.11-slim")
def train(total: int) -> str:
    """Trains on a GPU if there is one; a step should say what it works on."""
    import shutil

    device = "GPU" if shutil.which("nvidia-smi") else "CPU"
    return f"trained on the {device}, total {total}"


@dsl.pipeline(name="resources", description="Asks for CPU, memory and a GPU, step by step.")
def resources(rows: int = 1000) -> str:
    """Prepares on a machine with much memory, trains on one with a GPU.

    Args:
        rows: How many rows are prepared.
    """
    prepared = prepare(rows=rows)
    prepared.set_cpu_request("500m").set_cpu_limit("2").set_memory_request("1G").set_memory_limit("4G")
    trained = train(total=prepared.output)
    trained.set_memory_limit("8G").set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
    return trained.output
