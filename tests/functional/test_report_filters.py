# SPDX-License-Identifier: Apache-2.0

"""What users ask of a list, on what a real cloud sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiler_bridge import exceptions
from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.storage import get_storage
from tests import recorded

CREATE = "03235d9f-2f97-4514-b0ad-317fc0bc7adc"
SERVER = "81a72687-c1e0-4013-b3a8-42c2210c790e"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four traces: three requests to Keystone, and later a server create."""
    url = f"sqlite:///{tmp_path_factory.mktemp('filters')}/traces.sqlite"
    storage = get_storage(url)
    storage.prepare()
    for bodies in (recorded.keystone(), recorded.server_create()):
        for trace in recorded.traces(bodies):
            storage.write(
                [
                    end
                    for span in trace.spans
                    for end in (span.start, span.stop)
                    if end is not None
                ]
            )
    storage.close()
    return url


class Ask:
    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capsys = capsys

    def run(self, *args: str) -> tuple[int, str, str]:
        code = BridgeApp("profiler_bridge.report", "").run(
            ["--connection-string", self._url, *args]
        )
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def ids(self, *args: str) -> list[str]:
        code, out, _ = self.run("list", "-f", "json", *args)
        assert code == 0
        return [row["Base ID"] for row in json.loads(out)]


@pytest.fixture
def ask(url: str, capsys: pytest.CaptureFixture[str]) -> Ask:
    return Ask(url, capsys)


@pytest.fixture
def keystone(ask: Ask) -> list[str]:
    """The others, the newest first."""
    return ask.ids("--service", "!nova")


def test_a_command_is_called_by_what_it_changed(ask: Ask) -> None:
    _, out, _ = ask.run("list", "-f", "json")
    assert "POST /v2.1/servers +13" in out


@pytest.mark.parametrize(
    "args",
    [
        ["--root", "POST /v2.1/servers*"],
        ["--root", "POST /v2.1/servers"],
        ["--root", "GET *", "--root", "POST /v2.1*"],
        ["--root", "*", "--min-duration", "1s"],
        ["--about", SERVER],
        ["--about", SERVER.upper()],
        ["--service", "nova"],
        ["--service", "osapi_compute"],
        ["--service", "nova:nova-conductor", "--service", "neutron"],
        ["--project", "placement"],
        ["--operation", "SELECT tags"],
        ["--operation", "ComputeManager.*", "--operation", "!DELETE nosuch"],
        ["--min-duration", "2s"],
        ["--sort", "duration", "--limit", "1"],
    ],
)
def test_the_create_is_found(args: list[str], ask: Ask) -> None:
    assert ask.ids(*args) == [CREATE]


@pytest.mark.parametrize(
    "args",
    [
        ["--root", "!POST /v2.1/servers*"],
        ["--about", f"!{SERVER}"],
        ["--service", "keystone", "--service", "!nova"],
        ["--operation", "!ComputeManager.*"],
        ["--max-duration", "2s"],
    ],
)
def test_all_others_are_found(
    args: list[str], ask: Ask, keystone: list[str]
) -> None:
    assert len(keystone) == 3
    assert ask.ids(*args) == keystone


@pytest.mark.parametrize(
    "args",
    [
        ["--service", "nosuch"],
        ["--root", "PATCH*"],
        ["--about", CREATE],
        ["--operation", "nosuch"],
    ],
)
def test_who_finds_nothing_is_told_what_there_is(
    args: list[str], ask: Ask
) -> None:
    code, out, told = ask.run("list", "-f", "csv", *args)
    assert code == 0
    assert CREATE not in out
    assert told == (
        "no trace matches; there are traces of these services: glance:api,"
        " keystone:public, neutron:neutron-server, nova:nova-compute,"
        " nova:nova-conductor, nova:nova-scheduler, nova:osapi_compute,"
        " placement:placement\n"
    )


def test_where_nothing_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = f"sqlite:///{tmp_path}/empty.sqlite"
    get_storage(empty).prepare()
    _, _, told = Ask(empty, capsys).run("list")
    assert told == f"nothing is stored in {empty} yet\n"


def test_a_search_that_takes_too_long(ask: Ask, keystone: list[str]) -> None:
    """It shows what it has, and says where it stopped."""
    args = ["list", "-f", "json", "--operation", "*", "--time-limit", "0"]
    code, out, told = ask.run(*args)
    assert code == 0
    assert [row["Base ID"] for row in json.loads(out)] == [CREATE]
    assert told.startswith("stopped after 0 s, at a trace that started 2026-")
    marked = [*args, "--marker", CREATE]
    assert [row["Base ID"] for row in json.loads(ask.run(*marked)[1])] == [
        keystone[0]
    ]


@pytest.mark.parametrize("prefix", [CREATE[:8], CREATE[:1], CREATE[:-1]])
def test_a_part_of_an_id_is_enough(prefix: str, ask: Ask) -> None:
    code, out, _ = ask.run("show", "-f", "json", prefix)
    assert code == 0
    assert CREATE in out


def test_a_part_that_is_not_enough(
    ask: Ask, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    code, _, _ = ask.run("show", "f" * 8)
    assert code == 1
    assert "trace ffffffff is not in this storage" in caplog.text
    storage = get_storage(url)
    with pytest.raises(exceptions.TraceNotFound, match="more than one trace"):
        storage.find("")
