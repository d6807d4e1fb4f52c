from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts import api_reference, cli_reference
from typer.core import TyperGroup
from typer.main import get_command

from kfadapter_grpc.cli.app import Program, app
from kfadapter_grpc.cli.errors import MEANINGS
from kfadapter_grpc.client.connection import service_config
from kfadapter_grpc.methods import METHODS, SERVICES

if TYPE_CHECKING:
    from typer._click.core import Command

LINK = re.compile(r"\]\(([^)#/]*)#([^)]+)\)")


@pytest.fixture(scope="module")
def api() -> dict[str, str]:
    """The pages of the API reference."""
    return api_reference.pages()


@pytest.fixture(scope="module")
def cli() -> dict[str, str]:
    """The pages of the command line's reference."""
    return cli_reference.pages()


def anchors(page: str) -> set[str]:
    """The anchors that GitHub and the site give to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    names = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
    assert len(names) == len(set(names)), "two headings have one anchor"
    return set(names)


def test_every_rpc_is_described(api: dict[str, str]) -> None:
    """Each RPC of the contract has a heading, its full name, and a row in the list of RPCs."""
    text = "".join(api.values())
    for path, method in METHODS.items():
        assert f"\n### {method.name}\n\n`{path.removeprefix('/')}`\n" in text
        assert f"| [`{method.name}`](" in api["README.md"]
    for service in SERVICES:
        assert f"\n## {service.rpartition('.')[2]}\n" in api["README.md"]


def test_links_within_the_api_lead_somewhere(api: dict[str, str]) -> None:
    """Each link to a message, an enum or an RPC has its heading on the linked page."""
    known = {name: anchors(page) for name, page in api.items()}
    followed = 0
    for name, page in api.items():
        for target, anchor in LINK.findall(page):
            assert anchor in known[target or name], f"{name}: {target}#{anchor}"
            followed += 1
    assert followed > len(METHODS)


def test_messages_show_their_fields(api: dict[str, str]) -> None:
    """A field has its number, its type with a link, and its comment on one line; maps, oneofs and lists are marked."""
    page = api["pipeline.md"]
    assert "| `latest_version` | 8 | [`PipelineVersion`](#pipelineversion) | The latest version" in page
    assert "| `tags` | 7 | map of `string` to `string` |" in page
    assert "| `version_count` | 9 | optional `int32` |" in page
    assert "| `pipeline_id` | 1 | one of `pipeline`: `string` |" in page
    assert "| repeated [`Parameter`](#parameter) |" in page


def test_errors_of_an_rpc_are_a_list(api: dict[str, str]) -> None:
    """The errors in an RPC's comment become a list of code and reason."""
    assert "\n**[Errors](../errors.md)**\n\n- `NOT_FOUND` / `PIPELINE_NOT_FOUND`: " in api["pipeline.md"]


def test_every_command_has_its_page(cli: dict[str, str]) -> None:
    """Each command has a page with its usage, and a row in the list of commands, including those in groups."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    waiting: list[tuple[str, str, str, Command]] = [("README", "", name, one) for name, one in group.commands.items()]
    pages = {"README.md"}
    while waiting:
        parent, before, word, command = waiting.pop()
        name = f"{parent}-{word}" if before else word
        pages.add(f"{name}.md")
        assert f"| [`{word}`]({name}.md) | " in cli[f"{parent}.md"]
        if isinstance(command, TyperGroup):
            waiting += [(name, f"{word} ", inner, one) for inner, one in command.commands.items()]
        else:
            assert f"```text\nkfadapter {before}{word} " in cli[f"{name}.md"]
    assert set(cli) == pages
    assert "runs-show.md" in pages


def test_lists_and_commands_agree() -> None:
    """The help of the program describes a command by the first paragraph of the command's own help."""
    group = get_command(app)
    assert isinstance(group, Program)
    for name, command in group.commands.items():
        short = group.table.try_deferred(name)
        assert short is not None
        assert command.help is not None
        assert " ".join(command.help.split("\n\n")[0].split()) == short.help, name


def test_options_are_written_as_they_are_typed(cli: dict[str, str]) -> None:
    """An option has its short form, its value and its default; a bar does not end the cell."""
    assert "| `-o, --output table\\|json\\|yaml\\|name` | " in cli["get.md"]
    assert "[default: table] |\n" in cli["get.md"]
    assert "| `NAME\\|ID` | Pipeline:" in cli["get.md"]


def test_every_exit_code_is_listed(cli: dict[str, str]) -> None:
    """The table of exit codes is complete."""
    for code, meaning in MEANINGS.items():
        assert f"| {code.value} | {meaning} |\n" in cli["README.md"]


def test_the_service_config_for_other_languages() -> None:
    """The service config of the page about languages is that of the Python client: it retries every read."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "clients.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert json.loads(block) == json.loads(service_config())
