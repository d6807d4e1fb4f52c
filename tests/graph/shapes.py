"""Pipelines to draw."""

from __future__ import annotations

from kfadapter_grpc.contract.spec import Task, TaskKind


def task(name: str, *after: str, kind: TaskKind = TaskKind.CONTAINER, component: str = "") -> Task:
    """Makes a task without nested tasks."""
    return Task(name, component or f"comp-{name}", kind, image="python:3.11-slim", depends_on=after)


def condition(name: str, *after: str, text: str, tasks: tuple[Task, ...]) -> Task:
    """Makes tasks that run under a condition."""
    return Task(name, f"comp-{name}", TaskKind.CONDITION, depends_on=after, condition=text, tasks=tasks)


def loop(name: str, *after: str, items: str, tasks: tuple[Task, ...], parallelism: int = 0) -> Task:
    """Makes a loop."""
    return Task(
        name,
        f"comp-{name}",
        TaskKind.LOOP,
        depends_on=after,
        loop_items=items,
        tasks=tasks,
        loop_parallelism=parallelism,
    )


def group(name: str, *after: str, tasks: tuple[Task, ...]) -> Task:
    """Makes a group of tasks."""
    return Task(name, f"comp-{name}", TaskKind.DAG, depends_on=after, tasks=tasks)


_NOT_HEADS = "not (flip-a-coin.Output == 'heads')"
_MODELS = [f"train-model-{number}" for number in range(1, 11)]

SHAPES: dict[str, tuple[Task, ...]] = {
    "hello_world": (task("greet"),),
    "train_and_report": (
        task("make-data"),
        task("train", "make-data"),
        condition("good-enough", "train", text="train.Output < threshold", tasks=(task("report"),)),
    ),
    "parallel_squares": (
        loop("for-loop-1", items="numbers", tasks=(task("square"),), parallelism=2),
        task("total", "for-loop-1"),
    ),
    "fails_with_exit_handler": (
        group("exit-handler-1", tasks=(task("boom"),)),
        task("cleanup", "exit-handler-1", kind=TaskKind.EXIT_HANDLER),
    ),
    "kubernetes_platform": (task("createpvc"), task("greet", "createpvc"), task("deletepvc", "createpvc", "greet")),
    "branches": (
        task("flip-a-coin"),
        group(
            "condition-branches-1",
            "flip-a-coin",
            tasks=(
                condition("heads", text="flip-a-coin.Output == 'heads'", tasks=(task("say"),)),
                condition("tails", text=f"{_NOT_HEADS} and flip-a-coin.Output == 'tails'", tasks=(task("say-2"),)),
                condition("edge", text=f"{_NOT_HEADS} and not (flip-a-coin.Output == 'tails')", tasks=(task("say-3"),)),
            ),
        ),
        Task("each", "say", TaskKind.LOOP, "alpine:3.20", ("flip-a-coin",), loop_items=f"{[*range(60)]}"),
    ),
    "argo": (
        task("extract", component="run-query"),
        task("transform", "extract", component="transform"),
        Task("notify", "send", TaskKind.CONTAINER, depends_on=("transform",), condition="transform.rows > 0"),
    ),
    "diamond": (task("load"), task("clean", "load"), task("measure", "load"), task("train", "clean", "measure")),
    "shortcut": (
        task("load"),
        task("clean", "load"),
        task("train", "load", "clean"),
        task("report", "load", "clean", "train"),
    ),
    "crossing": (
        task("a"),
        task("b"),
        task("c", "a", "b"),
        task("d", "a"),
        task("e", "b", "d"),
        task("f", "c", "e", "a"),
    ),
    "fan": (task("split"), *(task(name, "split") for name in _MODELS), task("choose-best", *_MODELS)),
    "apart": (
        task("import-model", kind=TaskKind.IMPORTER),
        task("load"),
        task("serve", "import-model", "load"),
        task("ping"),
        task("warm-up-the-cache-of-the-feature-store-in-seoul"),
    ),
    "nested": (
        task("make-data"),
        task("flip-coin", "make-data"),
        condition(
            "condition-1",
            "flip-coin",
            text="flip-coin.Output == 'heads'",
            tasks=(
                task("heads"),
                loop(
                    "for-loop-1",
                    "heads",
                    items="[1, 2, 3]",
                    tasks=(task("square"), task("cube"), task("add", "square", "cube")),
                ),
            ),
        ),
        condition("condition-2", "flip-coin", text="flip-coin.Output == 'tails'", tasks=(task("tails"),)),
        task("clean-up", "condition-1", "condition-2", "make-data", kind=TaskKind.EXIT_HANDLER),
    ),
    "korean": (
        task("데이터-준비"),
        task("모델 학습", "데이터-준비"),
        task("평가 📊", "데이터-준비"),
        condition(
            "좋으면", "모델 학습", "평가 📊", text="평가.손실 < 0.1", tasks=(task("배포"), task("보고서", "배포"))
        ),
    ),
    "broken": (task("a", "c"), task("b", "a", "ghost"), task("c", "b"), group("empty", "c", tasks=())),
}
"""Their tasks, by name. The first ones are those of the pipelines that are shared for tests."""
