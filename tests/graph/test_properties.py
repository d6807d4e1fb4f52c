"""Properties of the drawings of any pipeline."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.graph.shapes import SHAPES
from tests.graph.tracing import edges_of, edges_seen

from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.graph import ASCII, UNICODE, Graph, dot, graph_of, mermaid, outline, svg, try_text
from kfadapter_grpc.graph.layout import DOCUMENT, Box, Fit, layout
from kfadapter_grpc.graph.model import truncate_middle
from kfadapter_grpc.graph.text import LABELS

pytestmark = pytest.mark.slow

patient = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""The time to generate a pipeline is irrelevant."""


def _pipeline(draw: st.DrawFn, prefix: str, depth: int) -> tuple[Task, ...]:
    """Draws tasks that depend on earlier ones, some with nested tasks; every name is unique."""
    count = draw(st.integers(1, 9 if depth else 4))
    tasks: list[Task] = []
    for number in range(count):
        name = f"{prefix}{number}"
        after = draw(st.sets(st.sampled_from([task.name for task in tasks]))) if tasks else set()
        inside = _pipeline(draw, f"{name}.", depth - 1) if depth and draw(st.integers(0, 4)) == 0 else ()
        kind = TaskKind.DAG if inside else TaskKind.CONTAINER
        tasks.append(Task(name, "", kind, depends_on=tuple(sorted(after)), tasks=inside))
    return tuple(tasks)


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[Task, ...]:
    """Pipelines without circles, up to three levels deep."""
    return _pipeline(draw, "t", 2)


TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["데이터 준비 단계 " * 4, "👨‍👩‍👧 family", "e\u0301" * 30, "\x1b[31mred", "a\nb", "\u202eback", "모델-2"]
    ),
)


@st.composite
def any_tasks(draw: st.DrawFn, depth: int = 2) -> tuple[Task, ...]:
    """Tasks with any names; dependencies may be circular, missing or repeated."""
    names = draw(st.lists(TEXTS, max_size=6))
    return tuple(
        Task(
            name,
            draw(TEXTS),
            draw(st.sampled_from(TaskKind)),
            depends_on=tuple(draw(st.lists(st.sampled_from([*names, "ghost"]), max_size=4))),
            condition=draw(st.one_of(st.just(""), TEXTS)),
            loop_items=draw(st.one_of(st.just(""), TEXTS)),
            tasks=draw(any_tasks(depth - 1)) if depth and draw(st.booleans()) else (),
        )
        for name in names
    )


@patient
@given(pipelines(), st.sampled_from([40, 60, 80, 200]))
def test_lines_show_all_edges_and_no_others(tasks: tuple[Task, ...], width: int) -> None:
    """The lines from box to box are exactly the dependencies of the file."""
    graph = graph_of(tasks)
    assert edges_seen(layout(graph, Fit(width, 48))) == edges_of(graph)


@pytest.mark.parametrize("seed", range(40))
def test_lines_of_larger_pipelines(seed: int) -> None:
    """The same holds for pipelines with many tasks and many lines."""
    graph = graph_of(_random(seed, tasks=60, lines=90))
    assert len(edges_of(graph)) > 50
    assert edges_seen(layout(graph, Fit(100, 48))) == edges_of(graph)


@patient
@given(pipelines())
def test_boxes_do_not_overlap(tasks: tuple[Task, ...]) -> None:
    """Two boxes are beside each other, or one is inside the other."""
    boxes = layout(graph_of(tasks), DOCUMENT).boxes
    for number, box in enumerate(boxes):
        for other in boxes[:number]:
            assert _apart(box, other) or _inside(box, other) or _inside(other, box)


@patient
@given(pipelines(), st.integers(20, 130), st.sampled_from([UNICODE, ASCII]))
def test_every_task_is_named(tasks: tuple[Task, ...], width: int, style: object) -> None:
    """A picture and a list have the name of each task, if too long its beginning and end."""
    chosen = UNICODE if style is UNICODE else ASCII
    graph = graph_of(tasks)
    lines = try_text(graph, width, chosen)
    if lines is not None:
        reported = "\n".join(lines)
        assert all(
            any(truncate_middle(title, cells, chosen.mark) in reported for cells in LABELS) for title in _titles(graph)
        )
    assert len([line for line in outline(graph, width, ASCII) if line.lstrip().startswith("*")]) == len(_titles(graph))


@patient
@given(any_tasks(), st.integers(20, 130))
def test_no_line_is_too_long(tasks: tuple[Task, ...], width: int) -> None:
    """For any file, no line is wider than the terminal or has control characters, and nothing fails."""
    graph = graph_of(tasks)
    for style in (UNICODE, ASCII):
        lines = (try_text(graph, width, style) or []) + outline(graph, width, style)
        assert max(map(cell_len, lines), default=0) <= width
        assert all(line.isprintable() or "\u200d" in line or not line.isascii() for line in lines)


@patient
@given(any_tasks())
def test_frames_are_straight(tasks: tuple[Task, ...]) -> None:
    """If a box has wide characters, its right border stays aligned."""
    found = layout(graph_of(tasks), DOCUMENT)
    for box in found.boxes:
        assert all(cell_len(line) <= box.width - 4 for line in box.lines)


@patient
@given(any_tasks())
def test_documents_are_written(tasks: tuple[Task, ...]) -> None:
    """SVG, Mermaid and DOT can be written for any file."""
    graph = graph_of(tasks)
    count = len(_titles(graph))
    assert svg(graph, "any").count("<rect") == count + 1
    assert len([line for line in mermaid(graph).splitlines() if '["' in line]) == count
    assert dot(graph).count("label=") == count


@pytest.mark.parametrize("name", SHAPES)
def test_the_tracer_sees_the_known_pipelines(name: str) -> None:
    """The pipelines of the golden drawings are traced, too, if their names are ASCII."""
    graph = graph_of(SHAPES[name])
    if all(title.isascii() for title in _titles(graph)):
        assert edges_seen(layout(graph, Fit(80, 48))) == edges_of(graph)


def _random(seed: int, tasks: int, lines: int) -> tuple[Task, ...]:
    """Makes tasks, most of which depend on tasks shortly before them."""
    drawn = random.Random(seed)  # noqa: S311
    after: dict[int, set[str]] = {number: set() for number in range(tasks)}
    for _ in range(lines):
        down = drawn.randrange(1, tasks)
        after[down].add(f"t{drawn.randrange(max(0, down - 12), down)}")
    return tuple(Task(f"t{number}", depends_on=tuple(sorted(ups))) for number, ups in after.items())


def _titles(graph: Graph) -> list[str]:
    return [title for node in graph.nodes for title in (node.title, *_titles(node.inside))]


def _apart(box: Box, other: Box) -> bool:
    beside = box.x + box.width <= other.x or other.x + other.width <= box.x
    return beside or box.y + box.height <= other.y or other.y + other.height <= box.y


def _inside(box: Box, other: Box) -> bool:
    across = other.x < box.x and box.x + box.width < other.x + other.width
    return across and other.y < box.y and box.y + box.height < other.y + other.height
