"""What keeps other sites, other hosts' names and other users out of the page."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from tests.console.visiting import MAX_UPLOAD_BYTES, Visitor, page
from tests.contract.tokens import TOKENS, token_file, token_lines
from tests.legacy_http.calling import serving

from kfadapter_console import security
from kfadapter_console.app import make_app
from kfadapter_console.security import FORM_BYTES, POLICY, Sessions
from kfadapter_grpc.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.console.conftest import Made
    from tests.scripted_kfp import ScriptedKfp

PRIVATE = "/compare?run=a%26b"
"""A page that asks the adapter."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.fixture(scope="module")
def locked(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an adapter that requires a token."""
    file = token_file(tmp_path_factory.mktemp("tokens"), token_lines("reader", "writer", "expired"))
    with serving(embedded_url, token_file=file) as server:
        yield server.address


@pytest.fixture
def guarded(locked: str) -> Iterator[Visitor]:
    """A visitor of a page in front of that adapter."""
    with page(locked) as visitor:
        yield visitor


@contextmanager
def unanswered() -> Iterator[Visitor]:
    """A visitor of a page in front of an address at which no adapter is."""
    with page("127.0.0.1:1") as visitor:
        yield visitor


# --- whose names and whose pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.8.9.1:1"])
def test_names_of_loopback(visitor: Visitor, host: str) -> None:
    """All names of loopback are ours: no other site can have one."""
    assert visitor.get("/login", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8080",
        "127.0.0.1@evil.example",
        "[::1",
        "",
        "0",
    ],
)
@pytest.mark.parametrize("path", ["/login", "/static/console.css", "/nothing"])
def test_other_names_are_refused(visitor: Visitor, host: str, path: str) -> None:
    """A name that another site made to point here (DNS rebinding) gets neither pages nor files nor a cookie."""
    answer = visitor.get(path, headers={"host": host})
    assert answer.status in {400, 421}
    assert "set-cookie" not in answer.headers
    assert "<html" not in answer.text


def test_a_name_can_be_allowed(target: str) -> None:
    """With --host the page is served under that name, and still under those of loopback."""
    with page(target, hosts=["Runs.example.org"]) as visitor:
        assert visitor.get("/login", headers={"host": "runs.EXAMPLE.org:444"}).status == 200
        assert visitor.get("/login").status == 200
        assert visitor.get("/login", headers={"host": "other.example.org"}).status == 421


def test_probes_ask_under_any_name(visitor: Visitor) -> None:
    """A kubelet asks by the pod's address; the answer says nothing, and asks no adapter."""
    answer = visitor.get("/healthz", headers={"host": "10.1.2.3:8080"})
    assert (answer.status, answer.text) == (200, "ok\n")
    with unanswered() as alone:
        assert alone.get("/healthz").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://["},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_forms_of_other_sites_are_refused(visitor: Visitor, headers: dict[str, str]) -> None:
    """A form that another site posts is refused, even with the right token."""
    answer = visitor.post("/logout", headers=headers)
    assert (answer.status, "another site" in answer.text) == (403, True)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_but_not_load(visitor: Visitor, site: str) -> None:
    """A link from another site works; its scripts, frames of scripts and streams get nothing."""
    assert visitor.get("/login", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).status == 200
    for mode in ("no-cors", "cors", "websocket"):
        assert visitor.get("/login", headers={"sec-fetch-site": site, "sec-fetch-mode": mode}).status == 403


# --- forms ----------------------------------------------------------------------------------------------------------


def test_a_form_needs_the_token_of_its_session(visitor: Visitor) -> None:
    """Without a token, with one of another session or a made-up one, a form is refused."""
    strangers = Visitor(visitor.url).csrf()
    for token in ("", "0" * 64, strangers, visitor.csrf() + "0", "한글", "a\0b"):
        answer = visitor.post("/logout", csrf=token)
        assert answer.status == 403
        assert "The form is out of date" in answer.words
    assert visitor.post("/logout").status == 200


def test_a_form_without_cookie_is_refused(visitor: Visitor) -> None:
    """A browser that sends no cookie is told so, rather than to have posted nothing."""
    token = visitor.csrf()
    visitor.cookies.clear()
    assert "sent no cookie" in visitor.post("/logout", csrf=token).words


def test_a_form_from_before_a_restart_is_refused(target: str) -> None:
    """The tokens of a page that was restarted are no longer valid."""
    with page(target) as before:
        token = before.csrf()
    with page(target) as after:
        after.cookies = {f"kfadapter_console_{after.url.rpartition(':')[2]}": next(iter(before.cookies.values()))}
        assert after.post("/logout", csrf=token).status == 403


def test_two_pages_on_two_ports(target: str) -> None:
    """Cookies do not distinguish ports: two pages on one machine do not disturb each other's forms."""
    with page(target) as one, page(target) as other:
        other.cookies = one.cookies
        tokens = [one.csrf(), other.csrf()]
        assert [one.post("/logout", csrf=tokens[0]).status, other.post("/logout", csrf=tokens[1]).status] == [200, 200]


def test_only_posts_change_something(target: str) -> None:
    """Where a form is posted to, a GET changes nothing: there is no page, or it is one to look at."""
    for route in routes(target):
        methods = set(route[1])
        assert methods <= {"GET", "HEAD"} or methods == {"POST"}, route


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/login", "/nothing", "/static/console.js", "/static/nothing", "/healthz", "/", "//"])
def test_all_answers_have_the_headers(visitor: Visitor, path: str) -> None:
    """Pages, redirects, files and errors carry the headers; only files may be stored."""
    headers = visitor.get(path, follow=False).headers
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert ("no-store" in headers["cache-control"]) == (path != "/static/console.js")


def test_refusals_have_the_headers(visitor: Visitor) -> None:
    """What the guard refuses carries them, too."""
    headers = visitor.get("/login", headers={"host": "evil.example"}).headers
    assert {name: headers.get(name) for name in HEADERS} == HEADERS


def test_unexpected_errors_have_the_headers(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of a defect carries them, and says nothing about the defect; the log does."""
    with page(target) as visitor:
        monkeypatch.setattr(Sessions, "token", lambda *_: 1 / 0)
        answer = visitor.get("/login")
    assert answer.status == 500
    assert "ZeroDivisionError" not in answer.text


def test_pages_of_defects(target: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A defect gets a page with the headers that says nothing about it; the log has it once."""
    monkeypatch.setattr(Client, "on_behalf", lambda *_, **__: 1 / 0)
    with page(target) as visitor:
        answer = visitor.post("/login", {"token": "secret-token"})
    assert answer.status == 500
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "ZeroDivisionError" not in answer.text
    assert caplog.text.count("ZeroDivisionError: ") == 1
    assert "secret-token" not in caplog.text


def test_static_files_are_stored(visitor: Visitor) -> None:
    """Files are stored, sent again only if they changed, and bring no cookie."""
    answer = Visitor(visitor.url).get("/static/console.css")
    assert answer.headers["cache-control"] == "no-cache"
    assert "set-cookie" not in answer.headers
    assert visitor.get("/static/console.css", headers={"if-none-match": answer.headers["etag"]}).status == 304
    assert visitor.get("/static/../app.py").status == 404
    assert visitor.get("/static/%2e%2e/app.py").status == 404
    assert visitor.get("/static/..%2fapp.py").status == 404


def test_the_cookie(target: str) -> None:
    """Scripts cannot read the cookie, other sites' forms do not send it, and with HTTPS it is sent by that only."""
    with page(target) as visitor:
        for scheme in ("http", "https"):
            visitor.cookies.clear()
            cookie = visitor.get("/login", headers={"x-forwarded-proto": scheme}).headers["set-cookie"]
            assert "; HttpOnly; SameSite=Lax" in cookie
            assert ("Secure" in cookie) == (scheme == "https")


# --- read-only ------------------------------------------------------------------------------------------------------


def test_read_only(target: str, made: Made) -> None:
    """With --read-only all posts but those of the login are refused, before they are read."""
    with page(target, read_only=True) as visitor:
        for path, methods in routes(target):
            if "POST" not in methods or path in {"/login", "/logout"}:
                continue
            answer = visitor.post(filled(path))
            assert (answer.status, "read-only" in answer.text) == (403, True), path
        assert visitor.post("/logout").status == 200
        for path in ("/pipelines", "/runs", f"/runs/{made.good.run_id}"):
            forms = visitor.get(path).html.forms
            assert [form.action for form in forms if form.method == "post"] == [], path


# --- login ----------------------------------------------------------------------------------------------------------


def test_login(guarded: Visitor) -> None:
    """Without a login a page leads to it, and from there on; the token works until the logout."""
    answer = guarded.get(PRIVATE)
    assert answer.path == f"/login?next={quote(PRIVATE, safe='')}"
    before = dict(guarded.cookies)
    answer = guarded.post("/login", {"token": f" {TOKENS['reader']}\n", "next": PRIVATE})
    assert (answer.status, answer.path) == (400, PRIVATE)
    assert guarded.cookies != before
    assert guarded.post("/logout").path == "/login"
    assert guarded.get(PRIVATE).path.startswith("/login?")


@pytest.mark.parametrize("token", ["한글", "a b", "x" * 20_000])
def test_what_cannot_be_a_token(guarded: Visitor, token: str) -> None:
    """What no call could carry is refused in words."""
    assert "what you entered is no token" in guarded.post("/login", {"token": token}).words


def test_a_session_planted_before_the_login_is_worth_nothing(guarded: Visitor) -> None:
    """The login changes the session, so one that another planted is never logged in (session fixation)."""
    planted = Visitor(guarded.url)
    planted.csrf()
    guarded.cookies = dict(planted.cookies)
    assert guarded.post("/login", {"token": TOKENS["reader"], "next": PRIVATE}).path == PRIVATE
    assert planted.get(PRIVATE).path.startswith("/login?")


def test_a_session_ends(guarded: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login ends after its time."""
    guarded.post("/login", {"token": TOKENS["reader"]})
    assert guarded.get(PRIVATE).path == PRIVATE
    monkeypatch.setattr(security, "SESSION_SECONDS", -1)
    guarded.post("/login", {"token": TOKENS["reader"]})
    assert guarded.get(PRIVATE).path.startswith("/login?")


@pytest.mark.parametrize(
    "token",
    [
        "",
        " ",
        "unknown",
        pytest.param(TOKENS["unknown"], id="of-nobody"),
        pytest.param(TOKENS["expired"], id="expired"),
        "한글",
        "a b",
        "a\r\nb: c",
        pytest.param("x" * 100_000, id="long"),
        "\0",
        "<img>",
    ],
)
def test_wrong_tokens(guarded: Visitor, token: str) -> None:
    """A wrong token is refused next to its field, in the server's words, without being repeated."""
    answer = guarded.post("/login", {"token": token, "next": "/runs"})
    assert (answer.status, answer.path) == (401, "/login")
    assert 'aria-invalid="true"' in answer.text
    assert len(token.strip()) < 2 or token not in answer.text
    assert guarded.get(PRIVATE).path.startswith("/login?")


@pytest.mark.parametrize(
    "following",
    ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "/\n/evil.example", "evil", ""],
)
def test_a_login_stays_on_this_site(guarded: Visitor, following: str) -> None:
    """Whatever `next` says, a login leads to a page of this site."""
    assert guarded.get("/login?next=//evil.example").text.count("evil.example") == 0
    answer = guarded.post("/login", {"token": TOKENS["reader"], "next": following}, follow=False)
    assert (answer.status, answer.headers["location"]) == (303, "/")


def test_links_of_errors_stay_on_this_site(visitor: Visitor) -> None:
    """The address of an error's page never becomes a link to another site."""
    for path in ("//evil.example/x", "/%09/evil.example", "/%5Cevil.example"):
        answer = visitor.get(visitor.url + path, headers={"referer": f"{visitor.url}//evil.example/y"})
        assert 'href="//' not in answer.text
        assert 'href="/\\' not in answer.text
        assert 'href="/\t' not in answer.text


def test_tokens_stay_in_memory(guarded: Visitor, caplog: pytest.LogCaptureFixture) -> None:
    """A token appears on no page, in no header and in no log: it is sent to the adapter only."""
    answers = [guarded.post("/login", {"token": TOKENS["writer"], "next": PRIVATE}, follow=False)]
    answers += [guarded.get(path) for path in (PRIVATE, "/login", "/nothing", "/runs/nothing")]
    answers.append(guarded.post("/login", {"token": TOKENS["unknown"]}))
    seen = "".join(f"{one.text}{dict(one.headers)}" for one in answers) + caplog.text
    assert TOKENS["writer"] not in seen
    assert TOKENS["unknown"] not in seen


def test_logins_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of too many logins is forgotten."""
    monkeypatch.setattr(security, "MAX_SESSIONS", 2)
    sessions = Sessions()
    made = [sessions.log_in(token) for token in "abc"]
    assert [sessions.token(one) for one in made] == ["", "b", "c"]


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_long_forms_are_refused_before_they_are_read(visitor: Visitor) -> None:
    """A body that announces more than is allowed is answered at once."""
    for kind, allowed in [
        ("application/x-www-form-urlencoded", 0),
        ("multipart/form-data; boundary=b", MAX_UPLOAD_BYTES),
    ]:
        head = f"POST /logout HTTP/1.1\nHost: 127.0.0.1\nContent-Type: {kind}\n"
        answer = visitor.raw(f"{head}Content-Length: {FORM_BYTES + allowed + 1}\n\n")
        assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
def test_long_chunked_forms_are_refused(visitor: Visitor, kind: str) -> None:
    """A body without Content-Length is refused once it is longer than allowed."""
    head = f"POST /logout HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\nContent-Type: {kind}"
    start = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    size = FORM_BYTES + MAX_UPLOAD_BYTES + 100
    body = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(start), start, size, b"x" * size)
    assert visitor.raw(head + "\n\n", body).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("length", ["-1", "x", "1" * 5000, "1, 2"])
def test_odd_lengths_are_refused(visitor: Visitor, length: str) -> None:
    """A length that is no number, or absurd, is refused."""
    answer = visitor.raw(f"POST /logout HTTP/1.1\nHost: 127.0.0.1\nContent-Length: {length}\n\n")
    assert answer.split()[1] in {b"400", b"413"}


def test_many_fields_are_refused(visitor: Visitor) -> None:
    """A form has at most as many fields as it may have."""
    assert visitor.post("/logout", [(f"f{number}", "") for number in range(1001)]).status == 400


def test_a_slow_head_is_given_up(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose request does not begin in time is closed, also one that sends a byte now and then."""
    monkeypatch.setattr(security, "IDLE_SECONDS", 0.2)
    with page(target) as visitor:
        assert visitor.raw("") == b""
        assert visitor.raw("GET /login HTTP/1.1\nHost: 127.0") == b""


def test_a_slow_body_is_given_up(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A form that does not arrive in time is refused, and its connection is free again."""
    monkeypatch.setattr(security, "BODY_SECONDS", -security.FORM_BYTES / security.MIN_BYTES_PER_SECOND + 0.2)
    with page(target) as visitor:
        host = visitor.url.removeprefix("http://")
        head = f"POST /login HTTP/1.1\nHost: {host}\nContent-Type: application/x-www-form-urlencoded\n"
        assert visitor.raw(f"{head}Content-Length: 100\n\n", b"token=").startswith(b"HTTP/1.1 408 ")


def test_an_unreachable_adapter(kfp: ScriptedKfp) -> None:
    """Without an adapter pages say so, with what to do; what a form holds can be sent again."""
    del kfp
    with unanswered() as visitor:
        answer = visitor.post("/start", {"pipeline_id": "p", "parameters.이름": '<"한글">', "once": "1"})
        assert answer.status == 503
        assert ("/start", "post") in [(form.action, form.method) for form in answer.html.forms]
        assert 'name="parameters.이름" value="&lt;&#34;한글&#34;&gt;"' in answer.text
        answer = visitor.post("/login", {"token": "x"})
        assert answer.status == 401
        assert "127.0.0.1:1" in answer.words


def routes(target: str) -> list[tuple[str, frozenset[str]]]:
    """All routes of the application, with their methods."""
    with Client(target, tls=False) as client:
        guard = make_app(client, hosts=[], max_upload_bytes=1)
    assert isinstance(guard, security.Guard)
    found = [(one.path, frozenset(one.methods)) for one in guard._app.routes if hasattr(one, "methods")]  # type: ignore[attr-defined]
    assert len(found) > 4
    return found


def filled(path: str) -> str:
    """Returns a route's address with something for each of its parts."""
    while "{" in path:
        path = path[: path.index("{")] + "nothing" + path[path.index("}") + 1 :]
    return path
