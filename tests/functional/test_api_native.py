# SPDX-License-Identifier: Apache-2.0

"""Lists and reports over HTTP are those of the report command."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from profiler_bridge.api import native
from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.notification import Notification
from profiler_bridge.storage import get_storage
from profiler_bridge.storage.traces import Storage
from profiler_bridge.testing.helpers import as_texts, write
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    STARTED,
    Payload,
    new_id,
    request,
    seeded,
    span,
)
from tests.http_service import application

UNKNOWN = str(uuid.UUID(int=1))
DEPTH = 600


def deep() -> list[Payload]:
    """A trace in which every span has a child."""
    rng = seeded(50)
    base_id = parent = new_id(rng)
    made: list[Payload] = []
    for number in range(DEPTH):
        own = new_id(rng)
        made += span(base_id, own, parent, STARTED + number, MILLISECOND)
        parent = own
    return made


def traces() -> list[list[Payload]]:
    """From the oldest to the newest."""
    return [
        deep(),
        *(
            request(
                seeded(number),
                STARTED + number * SECOND,
                calls=5 - number,
                error="LookupError" if number == 2 else None,
                project="nova" if number == 4 else "shop",
            )
            for number in range(1, 5)
        ),
    ]


@pytest.fixture
def storage(sqlite_url: str) -> Iterator[Storage]:
    storage = get_storage(sqlite_url)
    storage.prepare()
    for trace in traces():
        write(storage, trace)
    yield storage
    storage.close()


@pytest.fixture
def client(storage: Storage) -> FlaskClient:
    return application(storage).test_client()


def listed(client: FlaskClient, query: str = "") -> list[str]:
    response = client.get(f"/v1/traces?{query}")
    assert response.status_code == 200
    assert response.content_type == "application/json"
    return [row["Base ID"] for row in json.loads(response.data)]


def base_ids() -> list[str]:
    """From the newest to the oldest."""
    return [str(trace[0]["base_id"]) for trace in traces()][::-1]


def printed_by(
    url: str, capsys: pytest.CaptureFixture[str], *args: str
) -> str:
    """What the report command prints as JSON."""
    app = BridgeApp("profiler_bridge.report", "")
    assert app.run([f"--connection-string={url}", *args, "-f", "json"]) == 0
    return capsys.readouterr().out


def test_a_list_is_that_of_the_command(
    client: FlaskClient, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = json.loads(printed_by(sqlite_url, capsys, "list"))
    assert json.loads(client.get("/v1/traces").data) == printed
    assert len(printed) == len(traces())


def test_a_report_is_that_of_the_command(
    client: FlaskClient, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for base_id in base_ids():
        response = client.get(f"/v1/traces/{base_id}")
        assert response.content_type == "application/json"
        assert response.text == printed_by(sqlite_url, capsys, "show", base_id)
    # The deepest is last; it is sent in parts.
    assert response.content_length is None


def test_points_are_whole(client: FlaskClient) -> None:
    for trace in traces():
        base_id = trace[0]["base_id"]
        response = client.get(f"/v1/traces/{base_id}/points")
        assert response.content_type == "application/json"
        points = json.loads(response.data)
        assert as_texts(
            Notification.from_payload(point).payload for point in points
        ) == as_texts(trace)


def test_reports_of_deep_traces_can_be_made_from_them(
    client: FlaskClient,
) -> None:
    """Which a report cannot be, by the json module."""
    with pytest.raises(RecursionError):
        json.loads(client.get(f"/v1/traces/{base_ids()[-1]}").data)
    points = json.loads(client.get(f"/v1/traces/{base_ids()[-1]}/points").data)
    assert len(points) == 2 * DEPTH


@pytest.mark.parametrize("name", [UNKNOWN, "x", "%00", "..%5c", "%ff"])
def test_unknown_traces(client: FlaskClient, name: str) -> None:
    assert client.get(f"/v1/traces/{name}").status_code == 404
    assert json.loads(client.get(f"/v1/traces/{name}/points").data) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("error", [2]),
        ("error=true", [2]),
        ("error=false", [0, 1, 2, 3, 4]),
        ("service=shop&service=!api&limit=9", []),
        ("project=nova", [0]),
        ("project=!nova", [1, 2, 3, 4]),
        ("root=POST+/v1/*", [0, 1, 2, 3]),
        ("min-duration=20ms", [2, 3]),
        ("sort=duration&limit=2", [3, 2]),
        ("since=2000-01-01&until=2001-01-01", []),
        ("operation=SELECT*&limit=2", [0, 1]),
    ],
)
def test_filters(client: FlaskClient, query: str, expected: list[int]) -> None:
    assert listed(client, query) == [base_ids()[n] for n in expected]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sevice=nova", "sevice is no filter; there are root,"),
        ("limit=0", "limit: must be a number of at least 1"),
        ("limit=1&limit=2", "limit is there more than once"),
        ("error=perhaps", "error: write true or false"),
        ("sort=%1b", "sort: \\x1b cannot be used"),
        ("about=1", "about: '1' is no UUID"),
        ("marker=zz", "marker: 'zz' is no base_id"),
        ("marker=ab", "marker: write a whole base id"),
    ],
)
def test_filters_that_are_none(
    client: FlaskClient, query: str, expected: str
) -> None:
    response = client.get(f"/v1/traces?{query}")
    assert response.status_code == 400
    assert response.text.startswith(expected)


@pytest.mark.parametrize("sort", ["start", "duration"])
def test_pages(client: FlaskClient, sort: str) -> None:
    listed = []
    query = f"?limit=2&sort={sort}&service=!none"
    while query:
        response = client.get(f"/v1/traces{query}")
        listed += [row["Base ID"] for row in json.loads(response.data)]
        link = response.headers.get("Link", "")
        query = link.removesuffix('>; rel="next"').removeprefix("<")
    assert sorted(listed) == sorted(base_ids())
    assert listed == base_ids() or sort == "duration"


def test_a_limit_is_capped(client: FlaskClient) -> None:
    client.application.config["OPTIONS"] = SimpleNamespace(
        max_limit=3, time_limit=10.0
    )
    assert listed(client, "limit=1000") == base_ids()[:3]


def test_a_search_that_is_stopped_says_so(client: FlaskClient) -> None:
    """And goes on where it was."""
    client.application.config["OPTIONS"] = SimpleNamespace(
        max_limit=3, time_limit=0.0
    )
    response = client.get("/v1/traces?operation=no+such&time-limit=60")
    assert json.loads(response.data) == []
    assert response.headers[native.STOPPED].startswith("stopped after 0 s, at")
    assert f"marker={base_ids()[0]}" in response.headers["Link"]
    response = client.get(
        "/v1/traces?operation=no+such&sort=duration&service=shop"
    )
    assert "Link" not in response.headers
    assert native.STOPPED in response.headers


def test_it_only_reads(client: FlaskClient) -> None:
    for path in ("", f"/{UNKNOWN}", f"/{UNKNOWN}/points"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            response = client.open(f"/v1/traces{path}", method=method)
            assert response.status_code == 405
