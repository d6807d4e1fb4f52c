from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING

import pytest
from tests.embedded.conftest import Caller, unique

from kfadapter_embedded.document_kinds import PIPELINES, VERSIONS
from kfadapter_embedded.errors import KfpError
from kfadapter_embedded.listing import parse_listing
from kfadapter_embedded.pipelines import add_version, new_pipeline, new_version
from kfadapter_embedded.store import DuplicateError, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kfadapter_embedded.document_kinds import Kind
    from kfadapter_embedded.store import Page


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store whose clock advances by a second every third time it is read."""
    ticks = iter(range(10**9))
    return Store(tmp_path / "kfp.sqlite", clock=lambda: 1_700_000_000 + next(ticks) // 3)


def add(store: Store, name: str, display_name: str = "x", **fields: object) -> dict[str, object]:
    """Adds a pipeline."""
    pipeline = new_pipeline(store, name=name, display_name=display_name, **fields)
    with store.writing() as documents:
        documents.add(PIPELINES, pipeline)
    return pipeline


def page_of(store: Store, query: dict[str, str], kind: Kind = PIPELINES, owner: str = "") -> Page:
    """A page of a list."""
    with store.reading() as documents:
        return documents.page(parse_listing(kind, query), **({"owner": [owner]} if owner else {}))


def names_of(page: Page) -> list[str]:
    """The names on a page."""
    return [json.loads(text)["name"] for text in page.texts]


def delete(store: Store, kind: Kind, item_id: str) -> None:
    """Deletes a pipeline or a version."""
    with store.writing() as documents:
        documents.drop(kind, item_id)


def predicate(operation: str, key: str, **value: object) -> dict[str, object]:
    """A condition of a filter."""
    return {"operation": operation, "key": key, **value}


def names(store: Store, *predicates: dict[str, object], sort_by: str = "name") -> list[str]:
    """The names of the pipelines that match a filter."""
    query = {"filter": json.dumps({"predicates": predicates}), "sort_by": sort_by, "page_size": "200"}
    return names_of(page_of(store, query))


def refusal(query: dict[str, str]) -> str:
    """KFP's innermost message for a list that it rejects."""
    with pytest.raises(KfpError) as caught:
        parse_listing(PIPELINES, query)
    assert caught.value.status[0] == 3
    return caught.value.reason


@pytest.mark.parametrize(
    "sort_by", ["", "created_at desc", "name", "name desc", "id", "display_name desc", "description"]
)
def test_pages_of_pipelines(store: Store, sort_by: str) -> None:
    """Pages of 450 pipelines list each once though some of them, including those that tokens name, are deleted."""
    for number in range(450):
        add(store, f"P{number:03}", f"Shown {number % 7}", description=f"d{number % 5}")
    _check_pages(lambda query: page_of(store, query), sort_by, lambda item: delete(store, PIPELINES, item))


@pytest.mark.parametrize("sort_by", ["created_at", "name desc"])
def test_pages_of_versions(store: Store, sort_by: str) -> None:
    """Pages of 450 versions list each once though some of them are deleted, and none of another pipeline."""
    pipeline, other = (str(add(store, name)["pipeline_id"]) for name in ("one", "other"))
    for number in range(450):
        with store.writing() as documents:
            for owner in (pipeline, other) if number % 10 == 0 else (pipeline,):
                add_version(documents, new_version(store, owner, name=str(number)), "{}")
    _check_pages(
        lambda query: page_of(store, query, VERSIONS, pipeline), sort_by, lambda item: delete(store, VERSIONS, item)
    )


def _check_pages(page: Callable[[dict[str, str]], Page], sort_by: str, delete: Callable[[str], object]) -> None:
    """Reads all pages of 40, and deletes between them what the next token names and one that was already listed."""
    everything = {item for number in range(3) for item in _nth_page(page, number).ids}
    assert len(everything) == 450
    seen: list[str] = []
    deleted: set[str] = set()
    query = {"sort_by": sort_by, "page_size": "40"}
    while True:
        read = page(query)
        seen += read.ids
        if not read.next_page_token:
            break
        next_id = json.loads(base64.b64decode(read.next_page_token))["KeyFieldValue"]
        deleted |= {next_id}
        delete(next_id)
        delete(seen[-1])
        query = {"page_size": "40", "page_token": read.next_page_token}
    assert len(seen) == len(set(seen))
    assert set(seen) == everything - deleted


def _nth_page(page: Callable[[dict[str, str]], Page], number: int) -> Page:
    token = ""
    for _ in range(number):
        token = page({"page_size": "200", "page_token": token}).next_page_token
    return page({"page_size": "200", "page_token": token})


def test_order(store: Store) -> None:
    """Times are sorted with ties broken by id, names ignoring letter case, both ways."""
    made = [add(store, name) for name in ("b", "A", "c", "D", "ä", "Ä2", "한글")]
    by_time = sorted(made, key=lambda each: (str(each["created_at"]), str(each["pipeline_id"])))
    assert names(store, sort_by="") == [each["name"] for each in by_time]
    assert names(store, sort_by="created_at desc") == [each["name"] for each in reversed(by_time)]
    assert names(store) == ["A", "b", "c", "D", "ä", "Ä2", "한글"]
    assert names(store, sort_by="NAME DESC") == ["한글", "Ä2", "ä", "D", "c", "b", "A"]


def test_text_filters(store: Store) -> None:
    """Text is compared ignoring letter case; in IS_SUBSTRING `_` and `%` are wildcards."""
    for name in ("Alpha", "alphabet", "beta_1", "betaX1", "100%"):
        add(store, name, f"shown {name}", description=f"Description of {name}")
    assert names(store, predicate("EQUALS", "name", string_value="ALPHA")) == ["Alpha"]
    assert names(store, predicate("NOT_EQUALS", "name", string_value="alpha")) == [
        "100%",
        "alphabet",
        "beta_1",
        "betaX1",
    ]
    assert names(store, predicate("IS_SUBSTRING", "name", string_value="LPHA")) == ["Alpha", "alphabet"]
    assert names(store, predicate("IS_SUBSTRING", "name", string_value="a_1")) == ["beta_1", "betaX1"]
    assert names(store, predicate("IS_SUBSTRING", "name", string_value="a\\_1")) == ["beta_1"]
    assert names(store, predicate("IS_SUBSTRING", "description", string_value="of BETA")) == ["beta_1", "betaX1"]
    assert names(store, predicate("EQUALS", "display_name", string_value="Shown Alpha")) == ["Alpha"]
    assert names(store, predicate("IN", "name", string_values={"values": ["ALPHA", "beta_1", "none"]})) == [
        "Alpha",
        "beta_1",
    ]
    assert names(store, predicate("GREATER_THAN", "name", string_value="Beta")) == ["beta_1", "betaX1"]
    assert names(store, predicate("IN", "name", string_values={"values": []})) == []


def test_several_conditions(store: Store) -> None:
    """All conditions must match, several on one field too."""
    for name in ("ab", "bc", "abc"):
        add(store, name, name)
    both = [predicate("IS_SUBSTRING", "name", string_value=text) for text in ("a", "c")]
    assert names(store, *both) == ["abc"]


def test_time_filters(store: Store) -> None:
    """Times are compared by the second, in any format and time zone."""
    for number in range(9):
        add(store, f"p{number}", "x")
    moment = {"timestamp_value": "2023-11-14T22:13:21Z"}
    assert names(store, predicate("EQUALS", "created_at", **moment)) == ["p3", "p4", "p5"]
    assert names(store, predicate("GREATER_THAN", "created_at", **moment)) == ["p6", "p7", "p8"]
    assert names(store, predicate("GREATER_THAN_EQUALS", "created_at", **moment))[0] == "p3"
    assert (
        names(store, predicate("LESS_THAN", "created_at", timestampValue="2023-11-15T07:13:21.5%2B09:00"))[-1] == "p2"
    )
    assert names(store, predicate("LESS_THAN_EQUALS", "created_at", long_value="1700000000"))[-1] == "p2"


def test_id_filters(store: Store) -> None:
    """Ids can be filtered under both of their names."""
    first, second = (str(add(store, name)["pipeline_id"]) for name in "ab")
    assert names(store, predicate("EQUALS", "id", string_value=first)) == ["a"]
    assert names(store, predicate("IN", "pipeline_id", string_values={"values": [first, second]})) == ["a", "b"]


def test_tag_filters(store: Store) -> None:
    """Conditions on tags match the key and its value; several must all match."""
    add(store, "a", "a", tags={"team": "ml", "env": "prod"})
    add(store, "b", "b", tags={"team": "ml", "ml": "team"})
    assert names(store, predicate("EQUALS", "tags.team", string_value="ml")) == ["a", "b"]
    env = predicate("EQUALS", "tags.env", string_value="prod")
    assert names(store, predicate("EQUALS", "tags.team", string_value="ml"), env) == ["a"]
    assert names(store, predicate("EQUALS", "tags.team", string_value="team")) == []


def test_page_of_a_filter(store: Store) -> None:
    """A token keeps order and filter; tags are sent again; total_size counts the matches of the filter."""
    for number in range(6):
        add(store, f"x{number}", "x", tags={"even": str(number % 2 == 0)})
    conditions = [
        predicate("IS_SUBSTRING", "name", string_value="x"),
        predicate("EQUALS", "tags.even", string_value="True"),
    ]
    query = {"filter": json.dumps({"predicates": conditions}), "sort_by": "name desc", "page_size": "2"}
    first = page_of(store, query)
    second = page_of(store, {**query, "page_token": first.next_page_token})
    assert names_of(first) == ["x4", "x2"]
    assert (names_of(second), second.total_size, second.next_page_token) == (["x0"], 3, "")


def one(condition: str) -> dict[str, str]:
    """A query whose filter has one condition, as JSON."""
    return {"filter": f'{{"predicates": [{condition}]}}'}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"sort_by": "name sideways"}, "Received invalid sort by format"),
        ({"sort_by": "name asc desc"}, "Received invalid sort by format"),
        ({"page_size": "many"}, "type mismatch, parameter: page_size"),
        ({"page_size": "2147483648"}, "type mismatch, parameter: page_size"),
        ({"page_token": "e30="}, "Invalid page token"),
        ({"page_token": "W10="}, "Invalid page token"),
        ({"page_token": "====="}, "Invalid page token"),
        ({"page_token": "ü"}, "Invalid page token"),
        ({"filter": "{"}, "failed to parse filter spec: proto: unexpected EOF"),
        ({"filter": "%zz"}, 'failed to decode filter spec: invalid URL escape "%zz"'),
        ({"filter": "[" * 5000}, "failed to parse filter spec"),
        ({"filter": '{"predicates": 1}'}, "failed to parse filter spec"),
        ({"filter": '{"predicates": [1]}'}, "failed to parse filter spec"),
        (one('{"key": "name", "colour": 1}'), 'proto: unknown field "colour"'),
        (one('{"key": "name", "string_value": "x"}'), "invalid predicate operation"),
        (one('{"operation": 1, "string_value": "x"}'), "Predicate key cannot be empty"),
        (
            {"filter": '{"predicates": [{"operation": 8, "key": "name", "string_value": "x"}]}'},
            "cannot use IN operator",
        ),
        (
            {"filter": '{"predicates": [{"operation": 9, "key": "name", "int_value": 1}]}'},
            "cannot use non string value",
        ),
        (one('{"operation": 1, "key": "name"}'), "cannot use scalar operator EQUALS"),
        (
            {"filter": '{"predicates": [{"operation": 2, "key": "tags.a", "string_value": "x"}]}'},
            "only EQUALS operation",
        ),
        (one('{"operation": 1, "key": "tags.a", "int_value": 1}'), "tag filter value must be"),
        (
            {"filter": '{"predicates": [{"operation": 1, "key": "created_at", "timestamp_value": "now"}]}'},
            "Timestamp value",
        ),
    ],
)
def test_bad_queries(query: dict[str, str], words: str) -> None:
    """Unsupported queries are rejected in KFP's words."""
    assert words in refusal(query)


def test_most_of_everything(store: Store) -> None:
    """The largest accepted filters are no problem for the database; larger ones are rejected."""
    values = [str(number) for number in range(10_000)]
    longest = predicate("IS_SUBSTRING", "description", string_value="한" * 10_000)
    assert names(store, *[longest] * 97, *[predicate("IN", "name", string_values={"values": values})] * 3) == []
    assert "more than 100 predicates" in refusal({"filter": json.dumps({"predicates": [longest] * 101})})
    assert "more than 10000 values" in refusal(
        one(json.dumps(predicate("IN", "name", string_values={"values": [*values, "x"]})))
    )
    assert "longer than 10000" in refusal(one(json.dumps(predicate("IS_SUBSTRING", "name", string_value="x" * 10_001))))


def test_token_of_another_list(store: Store) -> None:
    """A token of pipelines does not list versions, and a modified token lists nothing."""
    for name in "ab":
        add(store, name, name)
    token = page_of(store, {"page_size": "1"}).next_page_token
    with pytest.raises(KfpError, match="Invalid page token"):
        parse_listing(VERSIONS, {"page_token": token})
    fields = json.loads(base64.b64decode(token))
    for change in (
        {"SortByFieldName": "name; DROP TABLE pipelines"},
        {"SortByFieldValue": [1]},
        {"SortByFieldValue": 2**63},
        {"Filter": {"EQ": {"pipelines.CreatedAtInSec": [2**63]}}},
        {"Filter": {"EQ": {"pipelines.evil": ["x"]}}},
        {"Filter": {"EVIL": {"pipelines.Name": ["x"]}}},
    ):
        forged = base64.b64encode(json.dumps({**fields, **change}).encode()).decode()
        assert refusal({"page_token": forged}) == "Invalid page token"


def test_second_decoding_of_filters(store: Store) -> None:
    """As in KFP a filter is URL-decoded once more: a plus must be sent as %2B, or it is a space."""
    add(store, "a+b", "x")
    assert names(store, predicate("EQUALS", "name", string_value="a+b")) == []
    assert names(store, predicate("EQUALS", "name", string_value="a%2Bb")) == ["a+b"]


def test_racing_uploads(caller: Caller) -> None:
    """Of concurrent uploads with one name one gets 200 and the others 409; versions too, ignoring letter case."""
    name = unique("race")
    pipeline = caller.upload()["pipeline_id"]
    assert _race(lambda _: caller.upload(name=name).status) == [200] + [409] * 7
    versions = [name.upper(), name] * 4
    assert _race(lambda number: caller.upload(name=versions[number], pipelineid=pipeline).status) == [200] + [409] * 7


def _race(call: Callable[[int], int]) -> list[int]:
    found: list[int] = []
    start = threading.Barrier(8)

    def run(number: int) -> None:
        start.wait(10)
        found.append(call(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return sorted(found)


def test_half_made_pipeline(store: Store) -> None:
    """A pipeline and its first version are created together or not at all."""
    add(store, "taken", "x")
    half, taken = new_pipeline(store, name="half"), new_pipeline(store, name="TAKEN")

    def write() -> None:
        with store.writing() as documents:
            documents.add(PIPELINES, half)
            documents.add(PIPELINES, taken)

    with pytest.raises(DuplicateError):
        write()
    assert names(store) == ["taken"]
    add(store, "after", "x")
    assert names(store) == ["after", "taken"]
