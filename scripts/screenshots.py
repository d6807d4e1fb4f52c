"""Starts `kfadapter dev`, runs some examples, and takes a picture of each page (scripts/screenshots)."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from kfadapter_grpc.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page, ViewportSize

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
SIZE: ViewportSize = {"width": 1080, "height": 720}
MOST_BYTES = 600_000
"""How large all pictures may be together."""
_QUALITY = 60
_SECONDS = 120


@contextmanager
def dev() -> Iterator[dict[str, str]]:
    """Runs `kfadapter dev` on free ports; yields its banner."""
    with tempfile.TemporaryDirectory(prefix="kfadapter-screenshots-") as folder:
        words = ["dev", "--port", "0", "--kfp-port", "0", "--page-port", "0", "--data", folder]
        with subprocess.Popen(  # noqa: S603  the project's own program
            [str(Path(sys.executable).parent / "kfadapter"), *words], stdout=subprocess.PIPE, text=True
        ) as process:
            banner: dict[str, str] = {}
            for line in process.stdout or ():
                name, _, value = line.strip().partition(" ")
                banner[name] = value.strip()
                if name == "stop":
                    break
            try:
                yield banner
            finally:
                process.terminate()


def made(target: str) -> dict[str, str]:
    """Uploads and runs examples; returns an address of each page, by its name."""
    with Client(target, tls=False) as client:
        for name, file in {
            "metrics": "examples/metrics.yaml",
            "parallel-loops": "examples/parallel_loops.yaml",
            "fails": "tests/data/pipelines/fails_with_exit_handler.yaml",
        }.items():
            client.pipelines.upload(ROOT / file, name=name)
        for version in ("train.yaml", "train_v2.yaml"):
            client.pipelines.upload(ROOT / "examples" / version, name="train", tags={"team": "기지국"})
        runs = [
            client.runs.create("train", parameters={"dataset_seed": 7, "epochs": 40}, display_name="train, 40 epochs"),
            client.runs.create("metrics", parameters={"slope": 1.5}, display_name="slope 1.5"),
            client.runs.create("metrics", parameters={"slope": 2.0}, display_name="slope 2"),
            client.runs.create("parallel-loops", display_name="병렬 반복"),
            client.runs.create("fails", display_name="nightly"),
        ]
        _, worse, better, loops, failed = [client.runs.wait(run.run_id, timeout=_SECONDS).run_id for run in runs]
        train = client.pipelines.get("train").pipeline_id
    return {
        "runs": "/runs",
        "run": f"/runs/{loops}",
        "failed": f"/runs/{failed}",
        "compare": f"/compare?run={worse}&run={better}&all=1",
        "pipelines": "/pipelines",
        "pipeline": f"/pipelines/{train}",
        "start": f"/start?pipeline_id={train}",
        "health": "/health",
    }


def taken(page: Page) -> bytes:
    """Takes a picture as WebP, which Playwright itself does not offer."""
    session = page.context.new_cdp_session(page)
    answer = session.send("Page.captureScreenshot", {"format": "webp", "quality": _QUALITY})
    return base64.b64decode(answer["data"])


def main() -> int:
    """Takes all pictures; returns 1 if they are too large."""
    IMAGES.mkdir(exist_ok=True)
    with dev() as banner, sync_playwright() as playwright:
        addresses = made(banner["adapter"].split()[0])
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(base_url=banner["page"].split()[0], color_scheme=scheme, viewport=SIZE)
            for name, address in addresses.items():
                page.goto(address)
                if name == "start":
                    page.get_by_label("epochs").fill("many")
                (IMAGES / f"console-{name}-{scheme}.webp").write_bytes(taken(page))
        browser.close()
    total = sum(path.stat().st_size for path in IMAGES.glob("console-*.webp"))
    sys.stdout.write(f"{total} bytes in {IMAGES.relative_to(ROOT)}\n")
    return int(total > MOST_BYTES)


if __name__ == "__main__":
    raise SystemExit(main())
