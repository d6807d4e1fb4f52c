"""The reviewed drawings; `python -m tests.graph.golden` draws them again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.graph.shapes import SHAPES

from kfadapter_grpc.graph import ASCII, UNICODE, dot, graph_of, mermaid, outline, svg, try_text

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent / "golden"
WIDTHS = (60, 80, 120)


def pictures() -> Iterator[tuple[str, str]]:
    """Yields the name and content of each file."""
    for name in SHAPES:
        yield f"{name}.txt", _texts(name)
        yield f"{name}.mmd", mermaid(graph_of(SHAPES[name]))
        yield f"{name}.dot", dot(graph_of(SHAPES[name]))
    for name in ("crossing", "nested", "korean"):
        yield f"{name}.svg", svg(graph_of(SHAPES[name]), name)


def _texts(name: str) -> str:
    """Draws a pipeline as text in all forms."""
    graph = graph_of(SHAPES[name])
    drawn = []
    for style, characters in ((UNICODE, "UTF-8"), (ASCII, "ASCII")):
        for width in WIDTHS:
            lines = try_text(graph, width, style) or ["too wide"]
            drawn.append(f"=== {width} columns, {characters}\n" + "\n".join(lines))
    drawn.append("=== a list, 60 columns\n" + "\n".join(outline(graph, 60, UNICODE)))
    return "\n".join(drawn) + "\n"


def main() -> None:
    """Draws all of them again."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name, text in pictures():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
