"""A spec without caching, and the label with its origin."""

from __future__ import annotations

import copy
import json

import pytest
from tests.runs_kfp import spec_of

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.labels import ORIGIN_CHARACTERS
from kfadapter_grpc.kfp.run_creation import without_caching
from kfadapter_grpc.kfp.run_json import origin_text, read_origin

PIPELINE = "11111111-1111-4111-8111-111111111111"
VERSION = "fedcba98-7654-4321-8fed-cba987654321"


@pytest.mark.parametrize("stem", ["hello_world", "parallel_squares", "fails_with_exit_handler", "kubernetes_platform"])
def test_nothing_but_caching_changes(stem: str) -> None:
    """Caching is switched off for every task, including those in groups; everything else is unchanged."""
    spec = spec_of(stem)
    changed = without_caching(json.dumps(spec).encode())
    assert True in _cached(spec)
    assert set(_cached(changed)) == {False}
    assert _without_options(changed) == _without_options(spec)


def _cached(part: object) -> list[bool]:
    """Whether caching is on, for each part that has caching options."""
    if not isinstance(part, dict):
        return []
    own = [part["cachingOptions"].get("enableCache", False)] if "cachingOptions" in part else []
    return own + [one for value in part.values() for one in _cached(value)]


def _without_options(spec: dict[str, object]) -> object:
    def stripped(part: object) -> object:
        if isinstance(part, dict):
            return {key: stripped(value) for key, value in part.items() if key != "cachingOptions"}
        return [stripped(one) for one in part] if isinstance(part, list) else part

    return stripped(copy.deepcopy(spec))


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"\xff"])
def test_what_is_no_spec(text: bytes) -> None:
    """Invalid specs from KFP are a KFP_ERROR."""
    with pytest.raises(errors.KfpError):
        without_caching(text)


@pytest.mark.parametrize("text", [b"{}", b'{"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}'])
def test_what_has_no_tasks_of_kfp_v2(text: bytes) -> None:
    """A file without tasks of KFP v2 is UNSUPPORTED_BY_KFP."""
    with pytest.raises(errors.UnsupportedByKfpError):
        without_caching(text)


@pytest.mark.parametrize(
    "text", [b'{"root": 1}', b'{"root": {"dag": []}, "components": [1]}', b'{"root": {"dag": {"tasks": [1]}}}']
)
def test_strange_specs_are_passed_on(text: bytes) -> None:
    """Unusual specs are passed on: KFP validates them."""
    assert without_caching(text) == json.loads(text)


def test_the_label_has_both_ids() -> None:
    """The label holds both ids, and has the same length for all ids."""
    text = origin_text(PIPELINE, VERSION)
    assert len(text) == ORIGIN_CHARACTERS
    assert read_origin(text) == (PIPELINE, VERSION)


@pytest.mark.parametrize("text", ["", "x", "x" * 42, "!" * 43, "가" * 43, "x" * 44])
def test_another_label(text: str) -> None:
    """Another label holds no ids."""
    assert read_origin(text) == ("", "")
