"""Lines as SVG paths: rounded where they turn, with a small bridge where they cross another."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kfadapter_grpc.graph.part import End, Wire

_CORNER = 5.0
_BRIDGE = 3.0
_HEAD = 7.0


@dataclass(slots=True)
class Strokes:
    """What is drawn: for each wire a path, so that what is drawn twice looks as if drawn once; and heads of arrows."""

    paths: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Pixels of a cell, and of the borders that lines begin and end at."""

    cell: tuple[int, int]
    tops: Mapping[tuple[int, int], float]
    bottoms: Mapping[tuple[int, int], float]

    def x(self, column: int) -> float:
        return (column + 0.5) * self.cell[0]

    def y(self, row: int) -> float:
        return (row + 0.5) * self.cell[1]

    def start(self, start: tuple[int, int]) -> float:
        return self.bottoms.get(start, self.y(start[1]))

    def tip(self, end: End) -> float:
        return self.tops[end.x, end.y] if end.arrow else self.y(end.y)

    def end(self, end: End) -> float:
        return self.tip(end) - (_HEAD - 1 if end.arrow else 0)


def strokes(
    wires: Sequence[Wire],
    tops: Mapping[tuple[int, int], float],
    bottoms: Mapping[tuple[int, int], float],
    cell: tuple[int, int],
) -> Strokes:
    """Draws wires.

    Args:
        wires: The wires, in cells.
        tops: For the cells above boxes, where the boxes begin, in pixels.
        bottoms: For the cells of lower borders, where the boxes end.
        cell: How wide and high a cell is.
    """
    scale = _Scale(cell, tops, bottoms)
    falls = _falls(wires)
    drawn = Strokes()
    for wire in wires:
        drawn.paths.append("".join(_path(wire, start, end, scale, falls) for start, end in _pairs(wire)))
        drawn.heads += [_head(scale.x(end.x), scale.tip(end)) for end in wire.ends if end.arrow]
    return drawn


def _pairs(wire: Wire) -> Iterator[tuple[tuple[int, int], End]]:
    """Names as many ways from a start to an end as are needed to see all."""
    starts, ends = sorted(wire.starts), sorted(wire.ends, key=lambda end: end.x)
    yield from ((start, ends[0]) for start in starts)
    if len(ends) > 1:
        yield from ((start, ends[-1]) for start in starts)
    yield from ((starts[0], end) for end in ends[1:-1])
    if len(starts) > 1:
        yield from ((starts[-1], end) for end in ends[1:-1])


def _falls(wires: Sequence[Wire]) -> dict[int, list[int]]:
    """Tells for each row that lines run across in, which columns are passed there by lines that go down."""
    rows = sorted({wire.bus for wire in wires if wire.bus is not None})
    falls: dict[int, set[int]] = defaultdict(set)
    for wire in wires:
        for x, low, high in _ways_down(wire):
            for row in rows[bisect_right(rows, low) : bisect_left(rows, high)]:
                falls[row].add(x)
    return {row: sorted(columns) for row, columns in falls.items()}


def _ways_down(wire: Wire) -> Iterator[tuple[int, int, int]]:
    if wire.bus is None:
        yield wire.starts[0][0], wire.starts[0][1], wire.ends[0].y
        return
    yield from ((x, y, wire.bus) for x, y in wire.starts)
    yield from ((end.x, wire.bus, end.y) for end in wire.ends)


def _path(wire: Wire, start: tuple[int, int], end: End, scale: _Scale, falls: Mapping[int, Sequence[int]]) -> str:
    begin, left, right = f"M{scale.x(start[0]):g} {scale.start(start):g}", scale.x(start[0]), scale.x(end.x)
    if wire.bus is None or start[0] == end.x:
        return f"{begin}V{scale.end(end):g}"
    level, way = scale.y(wire.bus), 1 if right > left else -1
    first = min(_CORNER, level - scale.start(start))
    last = min(_CORNER, max(scale.end(end) - level, 0))
    columns = falls.get(wire.bus, [])
    low, high = sorted((start[0], end.x))
    crossed = columns[bisect_right(columns, low) : bisect_left(columns, high)][::way]
    bridges = "".join(_bridge(scale.x(column), way) for column in crossed)
    return (
        f"{begin}V{level - first:g}q0 {first:g} {way * first:g} {first:g}{bridges}"
        f"H{right - way * last:g}q{way * last:g} 0 {way * last:g} {last:g}V{scale.end(end):g}"
    )


def _bridge(x: float, way: int) -> str:
    return f"H{x - way * _BRIDGE:g}a{_BRIDGE:g} {_BRIDGE:g} 0 0 {int(way > 0)} {way * 2 * _BRIDGE:g} 0"


def _head(x: float, y: float) -> str:
    return f"M{x - _HEAD / 2 - 0.5:g} {y - _HEAD:g}h{_HEAD + 1:g}L{x:g} {y:g}Z"
