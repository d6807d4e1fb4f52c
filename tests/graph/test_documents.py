"""SVG, Mermaid and DOT."""

from __future__ import annotations

from textwrap import dedent
from xml.etree import ElementTree as ET

import pytest
from tests.graph.shapes import SHAPES, group, loop, task

from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.graph import STYLE, dot, graph_of, mermaid, svg

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>\"&']]></script> #quot; \\n {%}`"


@pytest.mark.parametrize("name", SHAPES)
def test_svg_is_xml_with_all_boxes(name: str) -> None:
    """The SVG can be parsed, has a title and a description, and all boxes are inside its view."""
    root = ET.fromstring(svg(graph_of(SHAPES[name]), name))  # noqa: S314
    assert root.findtext(f"{SVG}title") == name
    assert SHAPES[name][0].name in str(root.findtext(f"{SVG}desc"))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    page, *boxes = root.iter(f"{SVG}rect")
    assert (page.attrib["width"], page.attrib["height"]) == (f"{width:g}", f"{height:g}")
    for box in boxes:
        x, y, wide, high = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        assert 0 <= x < x + wide <= width - 32
        assert 0 <= y < y + high <= height - 32


def test_svg_escapes_texts_of_a_file() -> None:
    """Text of a pipeline file is escaped; there are no scripts and no links."""
    text = svg(graph_of((Task(HOSTILE, condition=HOSTILE),)), HOSTILE)
    root = ET.fromstring(text)  # noqa: S314
    assert root.findtext(f"{SVG}title") == HOSTILE
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags == {"svg", "title", "desc", "style", "rect", "g", "text"}
    assert "href" not in text


def test_svg_survives_what_xml_forbids() -> None:
    """Characters that XML does not allow are shown as escapes."""
    text = svg(graph_of((task("a\x00b\ufffe\ud800"),)), "forbidden\x08")
    words = [element.text for element in ET.fromstring(text).iter(f"{SVG}text")]  # noqa: S314
    assert words == ["a\\x00b\\ufffe\\ud800"]


def test_svg_bridges_crossings() -> None:
    """A line that passes below another makes a small bridge."""
    paths = ET.fromstring(svg(graph_of(SHAPES["crossing"]), "x")).iter(f"{SVG}path")  # noqa: S314
    assert any("a3 3 0 0" in path.attrib["d"] for path in paths)


def test_svg_embedded_in_a_page_has_classes_only() -> None:
    """Inside a page the drawing has no styles, which a strict policy forbids, no background and no ids."""
    text = svg(graph_of(SHAPES["nested"]), "x", embedded=True)
    assert not {"style", "id"} & {name for element in ET.fromstring(text).iter() for name in element.attrib}  # noqa: S314
    assert "<style" not in text
    assert 'class="page"' not in text
    assert dedent("\n".join(svg(graph_of(()), "x").splitlines()[4:-5])).strip() == STYLE.strip()


def test_svg_shows_states_and_links() -> None:
    """A box has the class of its state, and is a link with the task's full name; what a page passes is escaped."""
    tasks = (task(HOSTILE), group("all", tasks=(task("one"),)))
    states = {(HOSTILE,): HOSTILE, ("all", "one"): "failed"}
    text = svg(graph_of(tasks), "x", states=states, link=lambda node: f"/tasks?of={'/'.join(node.path)}")
    root = ET.fromstring(text)  # noqa: S314
    links = {link.attrib["href"]: link for link in root.iter(f"{SVG}a")}
    assert list(links) == [f"/tasks?of={HOSTILE}", "/tasks?of=all", "/tasks?of=all/one"]
    assert links[f"/tasks?of={HOSTILE}"].findtext(f"{SVG}title") == HOSTILE
    looks = [rect.attrib["class"] for link in links.values() for rect in link.iter(f"{SVG}rect")]
    assert looks == [f"task {HOSTILE}", "group", "task failed"]
    assert root.attrib["role"] == "group"


def test_closed_groups_are_one_box() -> None:
    """A closed group is drawn as a box without what is in it, with its state and its lines; others stay open."""
    inner = group("inner", tasks=(task("x"),))
    tasks = (loop("each", items="[1]", tasks=(inner,)), group("open", "each", tasks=(inner,)))
    graph = graph_of(tasks, states={("each",): "12 of 300"}, closed={("each",)})
    text = svg(graph, "x", embedded=True)
    assert [rect.attrib["class"] for rect in ET.fromstring(text).iter("rect")] == [  # noqa: S314
        "task closed loop",
        "group",
        "group",
        "task",
    ]
    assert graph.nodes[0].details == ("for each of [1]", "12 of 300")
    assert graph.edges == ((0, 1),)


def test_mermaid_escapes_texts_of_a_file() -> None:
    """Quotes, hashes, HTML and Markdown are escaped for Mermaid; ids are generated numbers."""
    assert mermaid(graph_of((task(HOSTILE), task("end", HOSTILE)))) == (
        "flowchart TD\n"
        '  t1["#lt;script#gt;#quot;#amp;\']]#gt;#lt;/script#gt; #35;quot#59; #92;n {#37;}#96;"]\n'
        '  t2["end"]\n'
        "  t1 --> t2\n"
    )


def test_dot_escapes_texts_of_a_file() -> None:
    """Quotes, backslashes and entities are escaped for Graphviz."""
    assert (
        '  t1 [label="<script>\\"&amp;\']]></script> #quot; \\\\n {%}`"];'
        in dot(graph_of((task(HOSTILE),))).splitlines()
    )


def test_dot_draws_edges_to_clusters() -> None:
    """An edge of a group runs between nodes, as DOT requires, and ends at the group's border."""
    inner = (task("x"), task("y", "x"))
    lines = dot(graph_of((task("a"), group("g", "a", tasks=inner), group("h", "g", tasks=inner)))).splitlines()
    assert "  t1 -> t3 [lhead=cluster_t2];" in lines
    assert "  t4 -> t6 [ltail=cluster_t2, lhead=cluster_t5];" in lines
    assert "    t3 -> t4;" in lines


def test_documents_have_the_order_of_the_picture() -> None:
    """Mermaid and DOT have the tasks in the order of the picture, not of the file."""
    tasks = (task("last", "first"), task("first"))
    for text in (mermaid(graph_of(tasks)), dot(graph_of(tasks))):
        assert text.index("first") < text.index("last")
        assert "t1 -" in text


def test_documents_of_nothing() -> None:
    """A pipeline without tasks gives documents without boxes."""
    assert mermaid(graph_of(())) == "flowchart TD\n"
    assert dot(graph_of(())).count("label=") == 0
    assert ET.fromstring(svg(graph_of(()), "empty")).findtext(f"{SVG}desc") == "no tasks"  # noqa: S314


def test_kinds_have_their_looks() -> None:
    """Loops, conditions, importers and exit handlers are drawn differently."""
    root = ET.fromstring(svg(graph_of(SHAPES["nested"]), "x"))  # noqa: S314
    looks = [box.attrib["class"] for box in root.iter(f"{SVG}rect")]
    assert {"page", "task", "group condition", "group loop", "task finally"} == set(looks)
    importer = svg(graph_of((task("a", kind=TaskKind.IMPORTER),)), "x")
    assert 'class="task importer"' in importer
