"""Shared servers and callers of the benchmarks, started on first use and stopped together."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlencode

from benchmarks.pipeline_text import write_pipeline
from benchmarks.processes import Adapter, Caller, stand_in
from benchmarks.sides import ADAPTER, HTTP, PAGE, SDK, HttpSide
from benchmarks.stand_in import REAL, REQUEST_SECONDS
from kfadapter_embedded.process import start

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from typing_extensions import Self

T = TypeVar("T")

PREFIX = "kfadapter-benchmark-"
"""Begins the names of the pipelines that are made in KFP."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The amount of work.

    Attributes:
        quick: Whether to skip what takes long.
        rounds: The number of rounds.
        calls: The number of small calls per caller and round.
    """

    quick: bool
    rounds: int
    calls: int


FULL = Scale(quick=False, rounds=15, calls=60)
"""For figures that are published."""
QUICK = Scale(quick=True, rounds=2, calls=5)
"""To see that everything works."""


class Stage:
    """The servers and callers of a run. A context manager: stops everything on exit.

    Attributes:
        scale: The amount of work.
        folder: The folder for files of this run.
        home: An empty home folder for all processes.
    """

    def __init__(self, kfp_url: str, scale: Scale, *, keep: bool = False) -> None:
        """Uses the KFP at `kfp_url`, or starts an embedded one if empty; `keep` keeps pipelines there."""
        self.scale = scale
        self.folder = Path(tempfile.mkdtemp(prefix="kfadapter-benchmark-"))
        self.home = self.folder / "home"
        self._keep = keep
        self._given_url = kfp_url.rstrip("/")
        self._made: dict[Hashable, object] = {}
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        self.home.mkdir()
        self._ends.callback(shutil.rmtree, self.folder, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @property
    def embedded(self) -> bool:
        """Whether the KFP is embedded."""
        return not self._given_url

    def kfp_url(self) -> str:
        """The URL of KFP."""
        return self._once("kfp", lambda: self._given_url or self._embedded_url())

    def stand_in_url(self) -> str:
        """The URL of the KFP that responds immediately."""
        return self._once("stand-in", lambda: self._ends.enter_context(stand_in(self.home)))

    def real_stand_in_url(self) -> str:
        """The URL of the KFP with the response times of a real one."""
        return self._once("real stand-in", lambda: self._ends.enter_context(stand_in(self.home, REAL)))

    def concurrent_stand_in_url(self) -> str:
        """The URL of the KFP that responds to small requests as fast as a real one, concurrently."""
        return self._once("timed stand-in", lambda: self._ends.enter_context(stand_in(self.home, REQUEST_SECONDS)))

    def adapter(self, url: str) -> Adapter:
        """The adapter of a KFP."""
        return self._once(("adapter", url), lambda: self._ends.enter_context(self.borrowed_adapter(url)))

    @contextmanager
    def borrowed_adapter(self, url: str) -> Iterator[Adapter]:
        """Another adapter, just started."""
        with Adapter(url, self.home) as adapter:
            adapter.wait()
            yield adapter

    def caller(self, side: str, url: str) -> Caller:
        """A caller for one side of a KFP."""
        return self._once(("caller", side, url), lambda: self._ends.enter_context(self._new_caller(side, url)))

    @contextmanager
    def borrowed_caller(self, adapter: Adapter) -> Iterator[Caller]:
        """Another caller, for such an adapter."""
        with Caller(ADAPTER, adapter.target, self.home) as caller:
            yield caller

    def callers(self, url: str, *sides: str) -> dict[str, Caller]:
        """A caller for each side of a KFP; without `sides`, for all."""
        return {side: self.caller(side, url) for side in sides or (HTTP, SDK, ADAPTER)}

    def kfp(self) -> HttpSide:
        """KFP called from this process, for setup and cleanup; deletes created pipelines at the end."""

        def make() -> HttpSide:
            side = HttpSide(self.kfp_url())
            if not self._keep:
                self._ends.callback(tidy, side)
            return side

        return self._once("setup", make)

    def file(self, size: int) -> Path:
        """A pipeline of a number of bytes."""
        return write_pipeline(self.folder, size)

    def _embedded_url(self) -> str:
        return self._ends.enter_context(start(self.folder / "kfp")).url

    def _new_caller(self, side: str, url: str) -> Caller:
        return Caller(side, self.adapter(url).target if side == ADAPTER else url, self.home)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        return cast("T", self._made[key])  # each key has its own type


def tidy(kfp: HttpSide) -> None:
    """Deletes created pipelines; prints failures instead of raising them, so that the figures are not lost."""
    try:
        remove_pipelines(kfp)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        sys.stderr.write(f"benchmark: pipelines named {PREFIX}... are left in KFP: {error}\n")


def remove_pipelines(kfp: HttpSide) -> None:
    """Deletes the pipelines created by benchmarks, including those of an interrupted run."""
    predicate = {"operation": "IS_SUBSTRING", "key": "name", "string_value": PREFIX}
    query = urlencode({"page_size": PAGE, "filter": json.dumps({"predicates": [predicate]})})
    while found := kfp.json("GET", f"/pipelines?{query}").get("pipelines"):
        for one in found:
            kfp.send("DELETE", f"/pipelines/{one['pipeline_id']}?cascade=true")
