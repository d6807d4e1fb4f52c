"""Conditions: the next step depends on the result of an earlier step.

`conditions.yaml` is compiled from it: kfp dsl compile --py examples/conditions.py --output examples/conditions.yaml
"""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim")
def measure(correct: int, total: int) -> float:
    """Tells the share of correct answers."""
    return correct / total


@dsl.component(base_image="python:3.11-slim")
def release(accuracy: float) -> str:
    """Lets a good model go."""
    return f"released with accuracy {accuracy:.2f}"


@dsl.component(base_image="python:3.11-slim")
def ask_somebody(accuracy: float) -> str:
    """Leaves a middling model to a person."""
    return f"accuracy {accuracy:.2f}: somebody has to look"


@dsl.component(base_image="python:3.11-slim")
def reject(accuracy: float) -> str:
    """Keeps a bad model back."""
    return f"accuracy {accuracy:.2f} is too low"


@dsl.pipeline(name="conditions", description="Releases a good model, rejects a bad one, and asks when it is neither.")
def conditions(correct: int = 93, total: int = 100) -> str:
    """Measures, then goes one of three ways; the result is that of the way that was taken.

    Args:
        correct: How many answers were right.
        total: How many there were.
    """
    accuracy = measure(correct=correct, total=total).output
    with dsl.If(accuracy >= 0.9, name="good"):  # noqa: PLR2004
        released = release(accuracy=accuracy)
    with dsl.Elif(accuracy >= 0.7, name="middling"):  # noqa: PLR2004
        asked = ask_somebody(accuracy=accuracy)
    with dsl.Else(name="bad"):
        rejected = reject(accuracy=accuracy)
    return dsl.OneOf(released.output, asked.output, rejected.output)
