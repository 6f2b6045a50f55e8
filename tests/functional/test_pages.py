# SPDX-License-Identifier: Apache-2.0

"""What the service's pages answer; without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import bcrypt
import pytest
from werkzeug.test import Client, TestResponse

from profiler_bridge import config, exceptions
from profiler_bridge.api.app import make_app
from profiler_bridge.api.pages import POLICY
from profiler_bridge.api.pages.showing import FILES, pattern
from profiler_bridge.notification import Notification
from profiler_bridge.query import TraceQuery
from profiler_bridge.report import html, json
from profiler_bridge.report.formats import FORMATS
from profiler_bridge.report.statistics import By
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.pages import Page
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.sample import TEXTS, new_id, seeded, span
from tests import examples, many, web
from tests.functional.test_report_html_limits import EVIL

EXAMPLES = (
    examples.SLOW,
    examples.FAST,
    examples.FAILED,
    examples.LISTED,
)
SLOW, FAST, FAILED, LISTED = (example.base_id for example in EXAMPLES)
NEWEST_FIRST = [LISTED, FAILED, SLOW, FAST]
# Those of a create, and of a page that a trace is on.
CREATE = "/v2.1/servers"


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """Return an empty storage."""
    storage = get_storage(f"sqlite:///{tmp_path}/traces.sqlite")
    storage.prepare()
    yield storage
    storage.close()


@pytest.fixture
def client(storage: Storage) -> Client:
    return web.application(storage).test_client()


@pytest.fixture(scope="module")
def examples_stored(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Storage]:
    """Return a storage with the examples, to which nothing is written."""
    folder = tmp_path_factory.mktemp("pages")
    storage = get_storage(f"sqlite:///{folder}/traces.sqlite")
    storage.prepare()
    for example in EXAMPLES:
        storage.write(example.notifications())
    yield storage
    storage.close()


@pytest.fixture
def filled(examples_stored: Storage) -> Client:
    return web.application(examples_stored).test_client()


class _Reader(HTMLParser):
    """Elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self, rel: str | None = None) -> list[str]:
        return [
            attrs["href"]
            for tag, attrs in self.tags
            if tag == "a" and (rel is None or attrs.get("rel") == rel)
        ]


def get(client: Client, url: str, **args: Any) -> TestResponse:
    return client.get(url, query_string=args)


def listed(answer: TestResponse) -> list[str]:
    """The traces that a list has, in its order."""
    return [
        attrs["value"]
        for tag, attrs in _Reader(answer.text).tags
        if tag == "input" and attrs.get("name") == "trace"
    ]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, NEWEST_FIRST),
        ({"sort": "duration"}, [SLOW, FAST, FAILED, LISTED]),
        ({"root": "POST /v2.1/*"}, [FAILED, SLOW, FAST]),
        ({"error": "1"}, [FAILED]),
        ({"incomplete": "1"}, []),
        ({"service": "glance"}, [SLOW, FAST]),
        ({"service": ["nova", "!glance"]}, [LISTED, FAILED]),
        ({"project": "glance", "host": "compute-7"}, [SLOW, FAST]),
        ({"operation": "INSERT ports"}, [SLOW, FAST]),
        ({"name": "virt_driver"}, [SLOW, FAST]),
        ({"min-duration": "1s"}, [SLOW, FAST]),
        ({"max-duration": "100"}, [LISTED]),
        ({"since": "2026-02-03T05:00", "until": "2026-02-03T05:06"}, [SLOW]),
        ({"about": "00000000-0000-0000-0000-000000000001"}, []),
    ],
)
def test_filters_choose_as_those_of_list(
    filled: Client, args: dict[str, Any], expected: list[str]
) -> None:
    answer = get(filled, "/traces", **args)
    assert answer.status_code == 200
    assert listed(answer) == expected


def test_the_form_has_what_the_url_has(filled: Client) -> None:
    args = {
        "root": ["POST*", "!GET \"x'&<*"],
        "service": ["nova", "neutron:api"],
        "since": ["2026-02-03"],
        "min-duration": ["1ms"],
        "host": ["compute-7"],
        "error": ["1"],
        "sort": ["duration"],
        "limit": ["20"],
        "refresh": ["30"],
    }
    answer = get(filled, "/traces", **args)
    assert answer.headers["Refresh"] == "30"
    # As a browser sends it again.
    sent: dict[str, list[str]] = {}
    form = answer.text.partition('<form class="filters"')[2]
    form = form.partition("</form>")[0]
    select = ""
    for tag, attrs in _Reader(form).tags:
        if tag == "select":
            select = attrs["name"]
        value = attrs.get("value", "")
        if tag == "option" and "selected" in attrs:
            sent[select] = [value or "20"]
        is_box = attrs.get("type") == "checkbox"
        if tag == "input" and value and (not is_box or "checked" in attrs):
            sent.setdefault(attrs["name"], []).append(value)
    assert sent == args


def test_what_a_form_leaves_empty_is_not_kept(filled: Client) -> None:
    answer = filled.get("/traces?root=&service=nova&service=&sort=&limit=20")
    assert answer.status_code == 302
    assert parse_qs(urlsplit(answer.location).query) == {
        "service": ["nova"],
        "limit": ["20"],
    }


@pytest.mark.parametrize("sort", ["start", "duration"])
def test_pages_add_up(filled: Client, sort: str) -> None:
    url = f"/traces?limit=1&sort={sort}&service=nova"
    base_ids = []
    while url:
        answer = filled.get(url)
        base_ids += listed(answer)
        assert f"sort={sort}" in url
        assert "service=nova" in url
        (url,) = _Reader(answer.text).links("next") or [""]
    assert len(base_ids) == 4
    assert {*base_ids} == {*NEWEST_FIRST}


def test_limits_are_capped(examples_stored: Storage) -> None:
    app = web.application(examples_stored)
    app.config["OPTIONS"] = mock.Mock(max_limit=2, time_limit=5.0)
    answer = get(app.test_client(), "/traces", limit=1000)
    assert listed(answer) == NEWEST_FIRST[:2]
    assert _Reader(answer.text).links("next")


def test_a_search_that_is_stopped_says_so(examples_stored: Storage) -> None:
    app = web.application(examples_stored)
    app.config["OPTIONS"] = mock.Mock(max_limit=100, time_limit=0.0)
    answer = get(app.test_client(), "/traces", host="nowhere")
    assert "Stopped after 0 s" in answer.text
    # From there on.
    (url,) = _Reader(answer.text).links("next")
    assert f"marker={NEWEST_FIRST[0]}" in url
    answer = get(app.test_client(), "/operations")
    assert "there are more that were not looked" in answer.text


def test_names_are_offered(filled: Client) -> None:
    text = get(filled, "/traces").text
    offered = {
        attrs["value"]
        for tag, attrs in _Reader(text).tags
        if tag == "option" and "value" in attrs
    }
    assert {"nova:osapi_compute", "neutron", "POST /v2.1/servers"} <= offered


def frame(page: TestResponse) -> str:
    """The URL of the drawing in a list."""
    (url,) = (
        attrs["src"]
        for tag, attrs in _Reader(page.text).tags
        if tag == "iframe"
    )
    return url


def dots(answer: TestResponse) -> set[str]:
    """The traces that a drawing has."""
    return {
        url.rpartition("/")[2]
        for url in _Reader(answer.text).links()
        if url.startswith("/traces/")
    }


def test_a_drawing_has_all_that_match(filled: Client) -> None:
    """And not only those that are listed."""
    page = get(filled, "/traces", limit=2, service="nova")
    drawing = filled.get(frame(page))
    assert drawing.status_code == 200
    assert dots(drawing) == {*NEWEST_FIRST}
    assert "that match" not in drawing.text
    policy = drawing.headers["Content-Security-Policy"]
    assert policy == POLICY.replace("-ancestors 'none'", "-ancestors 'self'")
    # From where the list goes on.
    page = get(filled, "/traces", limit=2, marker=LISTED)
    assert dots(filled.get(frame(page))) == {*NEWEST_FIRST} - {LISTED}
    assert "<iframe" not in get(filled, "/traces", error="1").text


def test_a_drawing_is_bounded_and_says_so(examples_stored: Storage) -> None:
    app = web.application(examples_stored)
    client = app.test_client()
    app.config["OPTIONS"] = mock.Mock(max_limit=3, time_limit=5.0)
    text = get(client, "/scatter").text
    assert "The newest 3 that match." in text
    assert "The longest 3" in get(client, "/scatter", sort="duration").text
    app.config["OPTIONS"] = mock.Mock(max_limit=3, time_limit=0.0)
    drawing = get(client, "/scatter", sort="duration", service="nova")
    assert "In 0 s fewer than two" in drawing.text
    two = examples_stored.list_traces(TraceQuery(limit=2))
    page = Page(two, stopped=two[-1])
    with mock.patch.object(Storage, "page", return_value=page):
        drawing = get(client, "/scatter")
    assert "Only 2: the time for it, 0 s, was over" in drawing.text


def test_a_drawing_that_cannot_be(filled: Client) -> None:
    """Each is small, for it is in a frame."""
    assert get(filled, "/scatter", since="x").status_code == 400
    none = get(filled, "/scatter", service="cinder")
    assert "Fewer than two traces" in none.text
    gone = get(filled, "/scatter", marker=new_id(seeded(99)))
    assert gone.status_code == 404
    away = exceptions.StorageUnavailable("mysql://secret-host is away")
    with mock.patch.object(Storage, "page", side_effect=away):
        unavailable = get(filled, "/scatter")
    assert unavailable.status_code == 503
    for drawing in (none, gone, unavailable):
        assert "<header" not in drawing.text
        assert "secret-host" not in drawing.text
        policy = drawing.headers["Content-Security-Policy"]
        assert "frame-ancestors 'self'" in policy


@pytest.mark.parametrize("path", ["/traces", "/operations", "/services"])
def test_an_empty_page_says_why(
    client: Client, storage: Storage, path: str
) -> None:
    for filters in ({}, {"service": "cinder"}):
        page = get(client, path, **filters)
        assert "Nothing is stored yet" in page.text
        assert "openstack --os-profile SECRET_KEY" in page.text
    storage.write(examples.FAILED.notifications())
    page = get(client, path, service="cinder", error="1")
    assert "No trace matches" in page.text
    links = _Reader(page.text).links()
    # What there is without one of the filters, and of which services.
    assert f"{path}?error=1" in links
    assert f"{path}?service=cinder" in links
    assert f"{path}?service=nova:scheduler" in links
    away = exceptions.StorageUnavailable("mysql://secret-host is away")
    with mock.patch.object(Storage, "page", side_effect=away):
        answer = get(client, path)
    assert answer.status_code == 503
    assert answer.headers["Refresh"]
    assert "The storage does not answer" in answer.text
    assert "secret-host" not in answer.text


def test_a_storage_without_tables(tmp_path: Path) -> None:
    (tmp_path / "none.sqlite").touch()
    storage = get_storage(f"sqlite:///{tmp_path}/none.sqlite")
    client = web.application(storage).test_client()
    for path in ("/traces", "/operations", f"/traces/{SLOW}"):
        answer = client.get(path)
        assert answer.status_code == 500
        assert "The storage cannot be read" in answer.text
        assert "it makes them\nat its first start" in answer.text
    assert client.get("/compare").status_code == 200


@pytest.mark.parametrize(
    ("strategy", "is_local", "is_said"),
    [
        # As under another server, which does not say where it listens.
        ("noauth", False, True),
        ("noauth", True, False),
        ("http_basic", False, False),
    ],
)
def test_pages_say_where_anybody_may_read(
    examples_stored: Storage,
    tmp_path: Path,
    strategy: str,
    is_local: bool,
    is_said: bool,
) -> None:
    users = tmp_path / "htpasswd"
    users.write_text(f"ada:{bcrypt.hashpw(b'p', bcrypt.gensalt(4)).decode()}")
    file = tmp_path / "api.conf"
    file.write_text(
        f"[api]\nauth_strategy = {strategy}\n"
        f"[oslo_middleware]\nhttp_basic_auth_user_file = {users}\n"
    )
    conf = config.load_api([f"--config-file={file}"])
    app = make_app(conf, examples_stored, is_local=is_local)
    for path in ("/traces", "/compare", f"/traces/{SLOW}/tree"):
        answer = app.test_client().get(path, auth=("ada", "p"))
        assert answer.status_code == 200
        assert ("No authentication" in answer.text) == is_said


@pytest.mark.parametrize("path", ["/traces", "/operations", "/services"])
def test_a_filter_that_cannot_be_used(filled: Client, path: str) -> None:
    answer = get(filled, path, since="<b>yesterday", service="nova")
    assert answer.status_code == 400
    assert "is neither ISO 8601" in answer.text
    assert "<b>yesterday" not in answer.text
    assert 'value="nova"' in answer.text
    assert f'class="filters" action="{path}"' in answer.text
    # Where it would be folded it is not, so that what is wrong is seen.
    assert '<details class="fold" open>' in answer.text
    assert '<details class="fold">' in get(filled, path, service="x").text
    assert get(filled, path, limit="0").status_code == 400
    assert get(filled, path, sort="x").status_code == 400
    # To find what it begins, all traces would be read.
    assert get(filled, path, marker="ab").status_code == 400


def test_a_trace_and_ways_to_go_on(filled: Client) -> None:
    answer = get(filled, f"/traces/{SLOW}")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith(html.policy())
    assert "unsafe" not in policy
    links = _Reader(answer.text).links()
    (same,) = (url for url in links if url.startswith("/traces?"))
    assert listed(filled.get(same)) == [FAILED, SLOW, FAST]
    tree = filled.get(f"/traces/{SLOW}/tree")
    assert "LibvirtDriver.spawn" in tree.text
    # A link to a span is one on both pages.
    for example in examples.SLOW.payloads[:1]:
        assert f'id="{example["trace_id"]}"' in tree.text
    assert tree.text.count("<details") == tree.text.count("</details>")


def test_formats_are_files(filled: Client, examples_stored: Storage) -> None:
    assert FILES.keys() == FORMATS.keys()
    for name, render in FORMATS.items():
        answer = filled.get(f"/traces/{SLOW}/download/{name}")
        assert answer.status_code == 200
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.text == "".join(render(examples_stored.trace(SLOW)))
    whole = filled.get(f"/traces/{SLOW}/download/json").text
    assert json.read(whole).base_id == SLOW
    assert filled.get(f"/traces/{SLOW}/download/x").status_code == 404


def test_a_trace_is_opened_by_its_id(filled: Client) -> None:
    for given in (SLOW, f" {SLOW} ", SLOW.replace("-", "")):
        answer = get(filled, "/open", id=given)
        assert answer.location == f"/traces/{SLOW}"
    for unknown in ("x", "", "../../etc/passwd", "0" * 32):
        answer = get(filled, "/open", id=unknown, follow_redirects=True)
        answer = filled.get(answer.location or f"/open?id={unknown}")
        assert answer.status_code == 404


def test_operations(filled: Client) -> None:
    answer = get(filled, "/operations", service="glance")
    assert (
        "2 traces, 2026-02-03 04:05:06 to 2026-02-03 05:05:06 UTC"
        in _Reader(answer.text).text
    )
    reader = _Reader(answer.text)
    (url,) = (
        url
        for url in reader.links()
        if "operation=INSERT" in url and "ports" in url
    )
    assert listed(filled.get(url)) == [SLOW, FAST]

    def rows(**args: str) -> list[str]:
        body = get(filled, "/operations", **args).text.partition("<tbody>")[2]
        return [
            re.sub("<.*?>", "", row)
            for row in re.findall("(?s)<th>(.*?)</th>", body)
        ]

    assert "LibvirtDriver.spawn" in rows(order="self")[0]
    assert "SELECT subnets" in rows(order="calls")[0]
    assert rows(order="name") == sorted(rows(order="name"))
    assert rows(by="root")[0].startswith("POST /v2.1/servers")
    assert rows(by="statement")[0].startswith("SELECT subnets.id")
    assert rows(by="host")[0] == "compute-7"
    assert rows(by="no such") == rows()


def test_a_root_leads_to_its_traces(filled: Client) -> None:
    text = get(filled, "/operations", by="root").text
    links = [url for url in _Reader(text).links() if "root=" in url]
    assert sorted(len(listed(filled.get(url))) for url in links) == [1, 3]


def test_comparing_traces(filled: Client) -> None:
    answer = filled.get(f"/compare?trace={SLOW}&trace={FAST}")
    assert answer.location == f"/compare?before={FAST}&after={SLOW}"
    text = filled.get(answer.location).text
    rows = text.partition("<tbody>")[2]
    row = rows.partition("SELECT subnets")[2].partition("</tr>")[0]
    assert "+82.5 ms" in row
    assert "A verdict needs\n8 traces" in text
    assert "12.00" in row
    assert "<rect" in row
    # One above the other, and only where each side is one trace.
    assert '<section class="beside">' in text
    assert "SELECT subnets <b>&#xd7; 11</b>" in text
    style = filled.get("/compare.css")
    assert style.mimetype == "text/css"
    assert ".beside" in style.text
    given = {"If-None-Match": style.headers["ETag"]}
    assert filled.get("/compare.css", headers=given).status_code == 304
    many = get(filled, "/compare", before=FAST, after="limit=2").text
    assert '<section class="beside">' not in many
    for count in (1, 3):
        ticked = "&".join([f"trace={SLOW}"] * count)
        text = filled.get(f"/compare?{ticked}").text
        assert f"Choose two traces to compare, not {count}." in text


def test_comparing_queries(filled: Client) -> None:
    answer = get(
        filled,
        "/compare",
        before="root=POST /v2.1/servers,limit=1",
        after="root=GET /v2.1/*",
        by="root",
    )
    assert answer.status_code == 200
    text = _Reader(answer.text).text
    assert "1 trace, 2026-02-03 05:06:46 UTC; there may be more" in text
    assert "GET /v2.1/servers/detail" in answer.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0" * 8 + "-0000-4000-8000-" + "0" * 12, "is not in this storage"),
        ("service=cinder", "no trace matches"),
        ("/etc/passwd", "is neither a base id nor filters"),
        ("since=<b>", "is neither ISO 8601"),
        ("marker=ab", "must be a whole base id"),
    ],
)
def test_a_side_that_is_nothing(
    filled: Client, given: str, message: str
) -> None:
    answer = get(filled, "/compare", before=given, after=SLOW)
    assert answer.status_code == 400
    assert message in answer.text
    assert "<b>" not in answer.text.partition("</header>")[2]


def test_one_side_offers_the_other(filled: Client) -> None:
    text = get(filled, "/compare", after=SLOW).text
    (failed, fast) = (url for url in _Reader(text).links() if "before=" in url)
    assert FAILED in failed
    assert FAST in fast


def test_services(filled: Client) -> None:
    text = get(filled, "/services").text
    rows = re.findall("(?s)<tr><th>(.*?)</tr>", text.partition("<tbody>")[2])
    plain = [re.sub(r"<.*?>|\s+", " ", row).split() for row in rows]
    called = next(row for row in plain if row[1] == "nova:scheduler")
    assert called[:4] == ["nova:conductor", "nova:scheduler", "3", "1"]
    assert called[4:] == ["121", "ms", "121", "ms"]
    graph = text.partition('<svg class="graph"')[2].partition("</svg>")[0]
    for service in ("nova:conductor", "placement:placement", "user"):
        assert f"<title>{service}</title>" in graph
    links = [url for url in _Reader(graph).links() if "scheduler" in url]
    assert listed(filled.get(links[0])) == [FAILED, SLOW, FAST]


def test_nothing_of_a_trace_is_markup(
    storage: Storage, client: Client
) -> None:
    paths = [
        *("/traces?limit=100", "/operations", "/operations?by=root"),
        *("/operations?by=statement", "/services", "/traces?service=none"),
        "/scatter",
    ]
    for seed, text in enumerate([*EVIL, *TEXTS.values()]):
        rng = seeded(seed)
        base_id, top = new_id(rng), new_id(rng)
        payloads = [
            *span(
                *(base_id, top, base_id, examples.STARTED, 50_000, text),
                info={"request": {"method": text, "path": text}},
                project=text,
                service=text,
                host=text,
                error=text,
            ),
            *span(
                *(base_id, new_id(rng), top, examples.STARTED, 40_000, "x"),
                info={"db": {"statement": text}, "function": {"name": text}},
                project=f"{text}2",
                service=text,
                host=text,
            ),
        ]
        storage.write(
            [Notification.from_payload(payload) for payload in payloads]
        )
        paths.append(f"/traces/{base_id}/tree")
    paths += [
        f"/compare?before={base_id}&after={base_id}",
        f"/compare?after={base_id}",
    ]
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.text.replace("\n", "").isprintable()
        reader = _Reader(answer.text)
        assert {tag for tag, _ in reader.tags} <= _TAGS
        # One script, and that is the service's.
        scripts = [attrs for tag, attrs in reader.tags if tag == "script"]
        assert scripts == [{"src": "/pages/pages.js", "defer": ""}]
        for _, attrs in reader.tags:
            assert not any(name.startswith("on") for name in attrs)
            assert "style" not in attrs
            # Of the service, or of the page.
            assert re.match(r"/(?!/)|#", attrs.get("href", "/"))
        if path == "/operations?by=root":
            for url in {*reader.links()} - {"#main"}:
                assert client.get(url).status_code == 200


_TAGS = {
    *("a", "b", "body", "button", "circle", "code", "datalist"),
    *("details", "div", "figcaption", "figure", "form", "g", "h1"),
    *("h2", "h3", "head", "header", "html", "i", "iframe", "input", "label"),
    *("li", "line", "ol"),
    *("link", "main", "meta", "nav", "option", "p", "path", "pre", "rect"),
    *("script", "section", "select", "small", "span", "summary", "svg"),
    *("table", "tbody", "td", "text", "th", "thead", "time", "title"),
    *("tr", "ul"),
}


@pytest.mark.parametrize(
    "path",
    [
        *("/traces", "/operations", "/services", "/compare", "/traces/x"),
        *("/pages/pages.css", "/pages/pages.js", f"/traces/{SLOW}/tree"),
    ],
)
def test_headers(filled: Client, path: str) -> None:
    headers = filled.get(path).headers
    assert headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("database", ["mariadb_url", "redis_url"])
def test_pages_are_the_same_whichever_storage(
    database: str, request: pytest.FixtureRequest, storage: Storage
) -> None:
    other = get_storage(request.getfixturevalue(database))
    create = many.write(storage, 300)
    assert many.write(other, 300) == create
    [last, *_, first] = storage.list_traces(TraceQuery(limit=50))
    own, others = (
        web.application(source).test_client() for source in (storage, other)
    )
    for path in (
        *("/traces", f"/traces?marker={first.base_id}&limit=100"),
        *(
            "/traces?error=1",
            "/traces?root=GET*&service=nova&host=controller-1",
        ),
        *("/traces?operation=*things&sort=duration", "/traces?service=none"),
        *("/traces?min-duration=1s&project=keystone", "/scatter"),
        *("/scatter?sort=duration", "/operations", "/services?limit=500"),
        *(f"/operations?by={by}&limit=500" for by in By),
        f"/compare?before={first.base_id}&after={create}",
        "/compare?before=service=keystone&after=service=nova,limit=100",
        f"/compare?after={last.base_id}",
        *(f"/traces/{create}/tree", f"/traces/{create}"),
    ):
        answer = own.get(path)
        assert answer.status_code == 200
        made = "Made by [^<]*"  # and when
        other_text = re.sub(made, "", others.get(path).text)
        assert other_text == re.sub(made, "", answer.text), path
    other.close()


def test_below_another_path(filled: Client) -> None:
    text = filled.get("/traces", base_url="http://host/profiler/").text
    urls = {
        url
        for _, attrs in _Reader(text).tags
        for name in ("href", "src", "action")
        if (url := attrs.get(name, "#main")) != "#main"
    }
    assert {url[:10] for url in urls} == {"/profiler/"}
    answer = filled.get("/", base_url="http://host/profiler/")
    assert answer.location == "/profiler/traces"


def test_patterns_are_true_of_a_text_alone(filled: Client) -> None:
    for text in ("GET /v2/{id}", "a*b?c[d]", "![x", "[!x]"):
        assert fnmatchcase(text, pattern(text))
        assert not pattern(text).startswith("!")
    assert not fnmatchcase("axb", pattern("a*b"))
