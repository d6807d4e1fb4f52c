"""The drawing in characters."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from tests.graph.shapes import SHAPES, loop, task

from kfadapter_grpc.contract.spec import Task
from kfadapter_grpc.graph import ASCII, UNICODE, dot, graph_of, mermaid, outline, svg, try_text


def _nested(levels: int) -> Task:
    return loop(f"level-{levels}", items="[1]", tasks=(_nested(levels - 1),)) if levels else task("deep")


def _chain(length: int) -> list[Task]:
    return [task("t0"), *(task(f"t{number}", f"t{number - 1}") for number in range(1, length))]


LARGE = {
    "chain": _chain(500),
    "fan": [task("s"), *(task(f"t{n}", "s") for n in range(498)), task("e", *(f"t{n}" for n in range(498)))],
    "all of all": [task(f"t{n}", *(f"t{m}" for m in range(n))) for n in range(200)],
    "apart": [task(f"t{n}") for n in range(500)],
}


@pytest.mark.parametrize("name", LARGE)
def test_large_pipelines_are_drawn(name: str) -> None:
    """500 tasks fit into 80 columns, whether in a row, side by side or independent; the SVG is drawn, too."""
    graph = graph_of(LARGE[name])
    lines = try_text(graph, 80, UNICODE)
    assert lines is not None
    assert svg(graph, name).count("<rect") == len(graph.nodes) + 1


def test_what_cannot_fit_is_not_drawn() -> None:
    """A picture wider than the terminal is not drawn; the list has the same as text."""
    sources = [f"a{number}" for number in range(30)]
    tasks = [*(task(name) for name in sources), *(task(f"b{n}", sources[n], sources[n - 7]) for n in range(30))]
    graph = graph_of(tasks)
    assert try_text(graph, 40, UNICODE) is None
    assert "• b0: after a0, a23" in outline(graph, 40, UNICODE)


def test_deep_nesting() -> None:
    """Twenty levels fit into 120 columns, and are a list in 60."""
    graph = graph_of((_nested(20),))
    lines = try_text(graph, 120, UNICODE)
    assert lines is not None
    assert max(map(cell_len, lines)) <= 120
    assert try_text(graph, 60, UNICODE) is None
    assert [line.strip() for line in outline(graph, 60, ASCII)].count("* deep") == 1


def test_joins_are_seen() -> None:
    """Lines from two dependencies of a task join into one line with one arrow."""
    lines = try_text(graph_of(SHAPES["diamond"]), 80, UNICODE)
    assert lines is not None
    assert [line.strip() for line in lines[7:10]] == ["└───┬───┘  └────┬────┘", "└─────┬─────┘", "▼"]


def test_a_crossing_is_no_joint() -> None:
    """Where lines cross, the vertical one interrupts the other; a joint has arms on all sides."""
    lines = try_text(graph_of(SHAPES["crossing"]), 80, UNICODE)
    assert lines is not None
    assert any("─│─" in line for line in lines)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "korean"])
def test_ascii_is_ascii(name: str) -> None:
    """In ASCII only ASCII characters are drawn."""
    lines = try_text(graph_of(SHAPES[name]), 80, ASCII)
    assert lines is not None
    assert all(line.isascii() for line in lines)
    assert any("v" in line for line in lines) == any(task.depends_on for task in SHAPES[name])


def test_korean_keeps_its_columns() -> None:
    """All lines of a box are equally wide, in any script."""
    lines = try_text(graph_of((Task("데이터-준비", condition="준비 == '完了' 📊"),)), 80, UNICODE)
    assert lines is not None
    assert len({cell_len(line) for line in lines}) == 1


def test_long_names_are_broken_in_a_list() -> None:
    """A list omits nothing: long text continues on the next line."""
    lines = outline(graph_of((task("x" * 50, "y"),)), 30, ASCII)
    assert [line[:2] for line in lines] == ["* ", "  ", "  "]
    assert "".join(line[2:] for line in lines).startswith("x" * 50)
    assert lines[-1].endswith("after y (not there)")


def test_items_of_a_loop_are_cut() -> None:
    """Of thousands of items the first ones are shown, in pictures, lists and documents alike."""
    graph = graph_of((loop("each", items=str(list(range(5000))), tasks=(task("a"),)),))
    forms = ["\n".join(try_text(graph, 80, UNICODE) or []), "\n".join(outline(graph, 80, UNICODE))]
    forms += [svg(graph, "x"), mermaid(graph), dot(graph)]
    for form in forms:
        assert "each of [0, 1, 2" in form
        assert "…" in form
        assert ", 99, " not in form


def test_nothing_is_drawn_of_nothing() -> None:
    """A pipeline without tasks has an empty picture."""
    assert try_text(graph_of(()), 80, UNICODE) == []
    assert outline(graph_of(()), 80, ASCII) == []
