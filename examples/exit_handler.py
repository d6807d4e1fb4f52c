"""An exit handler: a step that always runs at the end, and receives the final status.

`exit_handler.yaml` is compiled from it:
kfp dsl compile --py examples/exit_handler.py --output examples/exit_handler.yaml
"""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim")
def check(rows: int) -> int:
    """Refuses to go on with too little data."""
    if rows < 1:
        raise ValueError(f"{rows} rows are too few to train with")
    return rows


@dsl.component(base_image="python:3.11-slim")
def train(rows: int) -> str:
    """Stands for the training."""
    return f"trained with {rows} rows"


@dsl.component(base_image="python:3.11-slim")
def tidy_up(status: dsl.PipelineTaskFinalStatus) -> str:
    """Runs in any case: the place to free what was taken, or to tell somebody."""
    why = f": {status.error_message}" if status.error_message else ""
    return f"the work ended as {status.state}{why}"


@dsl.pipeline(name="exit-handler", description="Tidies up at the end, also when a step has failed.")
def exit_handler(rows: int = 0) -> None:
    """Checks and trains; whatever happens, tidies up.

    Args:
        rows: How many rows there are; none make the check fail.
    """
    with dsl.ExitHandler(tidy_up(), name="work"):
        train(rows=check(rows=rows).output)
