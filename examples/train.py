"""A pipeline that trains a small model on made-up rows and reports how good it is.

`train.yaml` is compiled from it: kfp dsl compile --py examples/train.py --output examples/train.yaml
"""
# The source of each component travels alone, so its imports stand inside; a pipeline's defaults are never changed.
# ruff: noqa: B006, PLC0415, PLR0917, PTH123, S311

from kfp import dsl


@dsl.component(base_image="python:3.11-slim")
def make_rows(rows: int, seed: int, data: dsl.Output[dsl.Dataset]) -> None:
    """Writes rows of x and y, where y is about three times x."""
    import random

    draw = random.Random(seed)
    with open(data.path, "w") as file:
        for _ in range(rows):
            x = draw.uniform(0, 10)
            file.write(f"{x},{3 * x + draw.gauss(0, 0.1)}\n")


@dsl.component(base_image="python:3.11-slim")
def fit(data: dsl.Input[dsl.Dataset], epochs: int, learning_rate: float, metrics: dsl.Output[dsl.Metrics]) -> float:
    """Fits a line through the origin by gradient descent; returns the mean squared error."""
    with open(data.path) as file:
        rows = [tuple(map(float, line.split(","))) for line in file]
    weight = 0.0
    for _ in range(epochs):
        weight -= learning_rate * sum(2 * x * (weight * x - y) for x, y in rows) / len(rows)
    loss = sum((weight * x - y) ** 2 for x, y in rows) / len(rows)
    metrics.log_metric("loss", loss)
    return loss


@dsl.component(base_image="python:3.11-slim")
def report(loss: float, title: str, layers: list, options: dict, verbose: bool) -> str:
    """Says how it went."""
    text = f"{title}: loss {loss:.4f}"
    if verbose:
        text += f", layers {layers}, options {options}"
    return text


@dsl.pipeline(
    name="train", description="Trains a small model and reports its loss. 작은 모델을 학습하고 손실을 알려 준다."
)
def train(
    dataset_seed: int,
    rows: int = 100,
    epochs: int = 20,
    learning_rate: float = 0.01,
    title: str = "첫 번째 모델",
    layers: list = [64, 32],
    options: dict = {"dropout": 0.1, "optimizer": "sgd"},
    verbose: bool = True,
) -> str:
    """Makes rows, fits a model, reports the loss.

    Args:
        dataset_seed: Which rows are made; the same number makes the same rows.
        rows: How many rows are made.
        epochs: How often the model sees all rows.
        learning_rate: How large a step is.
        title: What the report calls the model. 보고서에 쓸 이름.
        layers: The sizes of the layers.
        options: Further settings of the training.
        verbose: Whether the report tells the settings too.
    """
    data = make_rows(rows=rows, seed=dataset_seed)
    model = fit(data=data.outputs["data"], epochs=epochs, learning_rate=learning_rate)
    return report(loss=model.outputs["Output"], title=title, layers=layers, options=options, verbose=verbose).output
