"""The graph of a spec, and the texts of its boxes."""

from __future__ import annotations

import pytest
from tests.graph.shapes import group, task

from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.graph import graph_of
from kfadapter_grpc.graph.model import split_at, truncate, truncate_middle, wrap_few
from kfadapter_grpc.printable import one_line


def test_edges_are_the_dependencies() -> None:
    """Each dependency of the file is an edge, once."""
    graph = graph_of((task("a"), task("b", "a", "a"), task("c", "b", "a")))
    assert graph.edges == ((0, 1), (0, 2), (1, 2))


def test_what_is_not_there_is_named() -> None:
    """A dependency on a missing task is shown in the box and in the list."""
    (node,) = graph_of((task("a", "ghost"),)).nodes
    assert node.details == ("after ghost (not there)",)
    assert node.after == ("ghost (not there)",)


def test_circles_are_opened_and_named() -> None:
    """Of a circle one edge is left out and shown as text; a task that depends on itself is a circle."""
    graph = graph_of((task("a", "b"), task("b", "a"), task("c", "c")))
    assert len(graph.edges) == 1
    assert [node.details for node in graph.nodes] == [(), ("after a (in a circle)",), ("after c (in a circle)",)]


def test_long_chains_need_no_recursion() -> None:
    """A chain of 5000 tasks, listed in the wrong order, is supported."""
    tasks = [task(f"t{number}", f"t{number + 1}") for number in range(5000)]
    assert len(graph_of(tasks).edges) == 4999


@pytest.mark.parametrize(
    ("shown", "details"),
    [
        (task("a"), ()),
        (task("a", component="comp-a-2"), ()),
        (task("a-2", component="comp-a"), ()),
        (task("a", component="comp-other"), ("runs other",)),
        (task("a", kind=TaskKind.IMPORTER), ("importer",)),
        (task("a", kind=TaskKind.EXIT_HANDLER), ("finally",)),
        (task("a.onExit", kind=TaskKind.EXIT_HANDLER, component="bye"), ("finally", "runs bye")),
        (group("a", tasks=()), ("no tasks shown",)),
        (Task("a", kind=TaskKind.LOOP, loop_items="[1]"), ("no tasks shown", "for each of [1]")),
        (task("a", kind=TaskKind.LOOP, component="say"), ("runs say", "for each of ...")),
        (group("a", tasks=(task("b"),)), ()),
        (Task("a", condition="x > 1"), ("if x > 1",)),
        (Task("a", kind=TaskKind.LOOP, loop_items="[1]", tasks=(task("b"),)), ("for each of [1]",)),
        (Task("a", loop_items="xs", loop_parallelism=2), ("for each of xs, 2 at once",)),
        (Task("a", kind=TaskKind.CONDITION, tasks=(task("b"),)), ("if ...",)),
    ],
)
def test_details_of_a_box(shown: Task, details: tuple[str, ...]) -> None:
    """A box shows what is special about a task, and nothing that its name says already."""
    assert graph_of((shown,)).nodes[0].details == details


def test_display_names_are_shown() -> None:
    """Display names are shown, also for dependencies."""
    first, second = graph_of((Task("a", display_name="데이터"), Task("b", depends_on=("a",)))).nodes
    assert (first.title, second.after) == ("데이터", ("데이터",))
    assert graph_of((Task(""),)).nodes[0].title == "(no name)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n b\tc", "a b c"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202eabc", "\\u202eabc"),
        ("\u061cabc", "\\u061cabc"),
        ("\ud800", "\\ud800"),
        ("한글", "한글"),
    ],
)
def test_nothing_steers_a_terminal(text: str, shown: str) -> None:
    """Control characters and changes of text direction are shown as escapes, whitespace as single blanks."""
    assert one_line(text) == shown


@pytest.mark.parametrize(
    ("text", "cells", "shown"),
    [
        ("train-model-12", 14, "train-model-12"),
        ("train-model-12", 13, "train-mo…l-12"),
        ("train-model-12", 5, "trai…"),
        ("train-model-12", 1, "…"),
        ("데이터-준비-12", 11, "데이터-…-12"),
    ],
)
def test_names_are_cut_in_the_middle(text: str, cells: int, shown: str) -> None:
    """A name is cut in the middle, so that the number at its end is kept if there is space."""
    assert truncate_middle(text, cells, "…") == shown


def test_texts_are_cut_at_the_end() -> None:
    """A wide character that does not fit is left out; a mark that is too wide is cut itself."""
    assert truncate("한국어", 4, "…") == "한…"
    assert truncate("abcdef", 2, "...") == ".."


def test_marks_stay_with_their_characters() -> None:
    """A combining accent never begins a line."""
    assert split_at("e\u0301e\u0301", 1) == ("e\u0301", "e\u0301")
    assert split_at("한국", 1) == ("한", "국")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("if a", ["if a"]),
        ("if not (a) and b", ["if not", "(a) and", "b"]),
        ("a b c d e f g h i j k l m n", ["a b c d", "e f g h", "i j k l…"]),
        ("x" * 50, ["x" * 8, "x" * 8, "x" * 7 + "…"]),
    ],
)
def test_long_words_are_broken_before_they_are_cut(text: str, lines: list[str]) -> None:
    """A condition continues for two more lines of its box, so that those of branches can be distinguished."""
    assert wrap_few(text, 8, "…") == lines
