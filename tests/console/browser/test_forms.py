"""Forms in a real browser: what the script adds to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from playwright.sync_api import Page
    from tests.console.conftest import Made

    from kfadapter_grpc.client import Client

pytestmark = pytest.mark.slow
_PASTE = """(field, text) => {
  const data = new DataTransfer();
  data.setData("text/plain", text);
  field.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""


def test_values_are_checked_while_typed(
    made: Made, client: Client, tab: Callable[..., AbstractContextManager[Page]]
) -> None:
    """A wrong value is reported while it is typed, until it is right; pasted lines are kept."""
    with tab() as page:
        page.goto(f"/start?pipeline_id={client.pipelines.get(made.train).pipeline_id}")
        for name, text, told in [
            ("dataset_seed", "1e3", "is not a whole number"),
            ("dataset_seed", "9007199254740993", "exact only up to 9007199254740991"),
            ("dataset_seed", " 7 ", ""),
            ("learning_rate", "1,5", "is not a number"),
            ("learning_rate", "1e-3", ""),
            ("layers", "{}", "is not a list"),
            ("layers", "[1", "is not JSON"),
            ("options", "null", "is not an object"),
            ("options", '{"이름": 1}', ""),
            ("layers", "", ""),
        ]:
            field = page.locator(f'[name="parameters.{name}"]')
            field.fill(text)
            problem = page.locator(f"#{field.get_attribute('id')}-problem")
            assert told in problem.inner_text()
            assert problem.is_visible() == bool(told)
            assert field.get_attribute("aria-invalid") == str(bool(told)).lower()
        field = page.locator('[name="parameters.title"]')
        field.fill("")
        field.evaluate(_PASTE, "첫 줄\n둘째 줄")
        page.click("text=Start the run")
        page.wait_for_url("**/runs/*")
        run = client.runs.get(page.url.rpartition("/")[2])
        assert run.parameters["title"] == "첫 줄\n둘째 줄"
        assert run.parameters["learning_rate"] == 0.001


def test_refused_file_stays_chosen(made: Made, tab: Callable[..., AbstractContextManager[Page]]) -> None:
    """A file that is refused stays in the form with all that was typed."""
    del made
    with tab() as page:
        page.goto("/pipelines")
        page.click("text=Upload a pipeline")
        page.set_input_files("#file", {"name": "잘못.yaml", "mimeType": "text/yaml", "buffer": b"a: [\n"})
        page.fill("#description", "설명\n둘째 줄")
        page.click("form[data-upload] button")
        assert "Line 2, column 1" in page.inner_text("#file-problem")
        assert page.url.endswith("/pipelines")
        assert page.evaluate("document.querySelector('#file').files[0].name") == "잘못.yaml"
        assert page.input_value("#description") == "설명\n둘째 줄"
        assert page.evaluate("document.activeElement.id") == "file"
