r"""Recognizes texts so plain that KFP's parser and libyaml cannot disagree on them: most of what kfp's compiler writes.

Where the two differ there is an anchor, an alias, a tag, a directive, a list or mapping in brackets, a key marked by
`? `, or the escape `\/`. Each of these but the last begins with a character of its own, and outside brackets it can
only stand at the beginning of a line, after the dashes of a list, after `: `, or after `---`. So a text without such a
character in such a place has none of them, whichever of its lines are quoted. That takes less than half of the time
of looking at the parser's events. Whether the text is YAML, libyaml itself shows.
"""

from __future__ import annotations

import re

_LONGEST_LINE = 1 << 16
_MARKS = r"[*&!%]|\?[ \n]|\[(?!\] *\n)|\{(?!\} *\n)"
_KEY = r"[A-Za-z_][\w.-]*:[ \n]"
_DOUBTS = (
    re.compile(rf"\n[ -]*(?:{_MARKS})"),
    re.compile(rf": +(?:{_MARKS})"),
    re.compile(rf"\n(?:---(?!\n{_KEY})|\.\.\.)"),
    re.compile(r"\n[ -]{400}"),  # nested deeper than a pipeline is
)
_DOUBTFUL = ("\\/", "\t", "\r", "\x85", "\u2028", "\u2029")
_BEGIN = re.compile(rf"(?:\n *(?:#[^\n]*)?)*(?=\n{_KEY})")
"""Blank lines and comments before the first key of a mapping."""


class BlockStyle:
    """Follows a text piece by piece.

    Attributes:
        in_doubt: Whether the text is not as plain as that.
    """

    def __init__(self) -> None:
        self.in_doubt = False
        self._rest = "\n"
        self._has_begun = False

    def follow(self, text: str) -> None:
        """Follows the next piece; an empty one is the end."""
        lines = self._rest + (text or "\n")
        end = lines.rfind("\n")
        self._rest, lines = lines[end:], lines[: end + 1]
        if not self._has_begun and (begin := _BEGIN.match(lines)):
            lines = lines[begin.end() :]
            self._has_begun = True
        self.in_doubt |= (
            not self._has_begun
            or len(self._rest) > _LONGEST_LINE
            or any(part in lines for part in _DOUBTFUL)
            or any(doubt.search(lines) for doubt in _DOUBTS)
        )
