# SPDX-License-Identifier: Apache-2.0

"""The example traces of the documentation, and what the commands say of them.

``python -m tests.examples`` writes ``doc/source/user/examples`` anew: the
commands' outputs, and pictures of the HTML report, for which it needs
Chromium.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from profiler_bridge.cmd.app import BridgeApp
from profiler_bridge.notification import Notification, parse_timestamp
from profiler_bridge.storage import get_storage
from profiler_bridge.testing.sample import (
    MILLISECOND,
    SECOND,
    Payload,
    new_id,
    seeded,
    span,
)
from profiler_bridge.trace import Trace

# As on the usual terminal.
_COLUMNS = "80"
FOLDER = Path(__file__).parents[1] / "doc/source/user/examples"

STARTED = parse_timestamp("2026-02-03T04:05:06.000007")


class Example:
    """A trace in the making; times are milliseconds from its start."""

    def __init__(self, seed: int, started: int) -> None:
        self._rng = seeded(seed)
        self._started = started
        self.base_id = new_id(self._rng)
        self.payloads: list[Payload] = []

    def span(
        self,
        where: str,
        name: str,
        start: float,
        stop: float,
        info: dict[str, Any],
        parent: str | None = None,
        error: str | None = None,
    ) -> str:
        """Add a span; ``where`` is project:service@host."""
        trace_id = new_id(self._rng)
        project, _, rest = where.partition(":")
        service, _, host = rest.partition("@")
        self.payloads += span(
            *(self.base_id, trace_id, parent or self.base_id),
            self._started + round(start * MILLISECOND),
            round((stop - start) * MILLISECOND),
            name,
            info=info,
            project=project,
            service=service,
            host=host,
            error=error,
        )
        if error:
            self.payloads[-1]["info"]["message"] = "No valid host was found."
        return trace_id

    def notifications(self) -> list[Notification]:
        return [
            Notification.from_payload(payload) for payload in self.payloads
        ]

    def trace(self) -> Trace:
        return Trace.build(self.base_id, self.notifications())


def http(method: str, path: str) -> dict[str, Any]:
    return {
        "request": {
            "method": method,
            "path": path,
            "query": "",
            "scheme": "http",
        }
    }


def call(name: str) -> dict[str, Any]:
    return {"function": {"name": name, "args": "", "kwargs": "{}"}}


def sql(statement: str, **params: object) -> dict[str, Any]:
    return {"db": {"statement": statement, "params": params}}


def boot(
    seed: int,
    started: int,
    *,
    subnets: int = 12,
    error: str | None = None,
) -> Example:
    """A server is asked for; neutron asks for its subnets one by one.

    :param subnets: how many queries that are
    :param error: what the scheduler raises; nothing is built then
    """
    api = "nova:osapi_compute@controller-1"
    conductor = "nova:conductor@controller-2"
    scheduler = "nova:scheduler@controller-2"
    compute = "nova:compute@compute-7"
    neutron = "neutron:api@controller-1"
    keystone = "keystone:public@controller-1"
    made = Example(seed, started)
    queries = 9 * subnets
    top = made.span(
        api, "wsgi", 0, 158 + queries, http("POST", "/v2.1/servers")
    )
    token = made.span(
        *(keystone, "wsgi", 3, 27.5, http("GET", "/v3/auth/tokens"), top)
    )
    for start, table in ((6, "user"), (11, "project"), (17.5, "assignment")):
        statement = f"SELECT {table}.id FROM {table} WHERE {table}.id = %(id)s"
        made.span(
            keystone, "db", start, start + 2.4, sql(statement, id=7), token
        )
    create = made.span(
        *(api, "compute_api", 34, 149 + queries),
        call("nova.compute.api.API.create"),
        top,
    )
    networks = made.span(
        *(neutron, "wsgi", 41, 72 + queries),
        http("GET", "/v2.0/networks"),
        create,
    )
    for number in range(subnets):
        made.span(
            *(neutron, "db", 58 + 9 * number, 65.5 + 9 * number),
            sql(
                "SELECT subnets.id, subnets.cidr FROM subnets"
                " WHERE subnets.network_id = %(network_id)s",
                network_id=number,
            ),
            networks,
        )
    made.span(
        *(api, "db", 96 + queries, 117 + queries),
        sql("INSERT INTO instances (uuid) VALUES (%(uuid)s)", uuid=seed),
        create,
    )
    # A cast: the answer of the API does not wait for it.
    begin = 140 + queries
    end = begin + (170 if error else 2310)
    build = made.span(
        *(conductor, "rpc", begin, end),
        call("nova.conductor.manager.ComputeTaskManager.build_instances"),
        create,
    )
    select = made.span(
        *(scheduler, "rpc", begin + 21, begin + 142),
        call("nova.scheduler.manager.SchedulerManager.select_destinations"),
        build,
        error,
    )
    made.span(
        *("placement:placement@controller-2", "wsgi"),
        *(begin + 30, begin + 118),
        http("GET", "/allocation_candidates"),
        select,
    )
    if error:
        return made
    run = made.span(
        *(compute, "rpc", begin + 190, end - 40),
        call("nova.compute.manager.ComputeManager.build_and_run_instance"),
        build,
    )
    port = made.span(
        *(neutron, "wsgi", begin + 260, begin + 610),
        http("POST", "/v2.0/ports"),
        run,
    )
    made.span(
        *(neutron, "db", begin + 310, begin + 352),
        sql("INSERT INTO ports (id) VALUES (%(id)s)", id=seed),
        port,
    )
    made.span(
        *("glance:api@controller-1", "wsgi", begin + 640, begin + 720),
        http("GET", "/v2/images/cirros"),
        run,
    )
    made.span(
        *(compute, "virt_driver", begin + 740, end - 90),
        call("nova.virt.libvirt.driver.LibvirtDriver.spawn"),
        run,
    )
    return made


def show(seed: int, started: int) -> Example:
    """The list of servers is asked for."""
    api = "nova:osapi_compute@controller-1"
    made = Example(seed, started)
    top = made.span(
        *(api, "wsgi", 0, 61.2, http("GET", "/v2.1/servers/detail"))
    )
    made.span(
        *(api, "db", 30, 44.8),
        sql("SELECT instances.uuid FROM instances WHERE deleted = 0"),
        top,
    )
    return made


FAST = boot(2, STARTED, subnets=1)
SLOW = boot(1, STARTED + 3600 * SECOND)
FAILED = boot(3, STARTED + 3700 * SECOND, error="NoValidHost")
LISTED = show(4, STARTED + 3720 * SECOND)

#: The file that a command's output goes to, and the command.
COMMANDS = {
    "list": "list",
    "list-errors": """list --error --project nova --since 2026-02-03 \\
    -f value -c 'Base ID' -c Title""",
    "show": f"show {SLOW.base_id}",
    "show-short": f"""show {SLOW.base_id} \\
    --min-duration 100ms --max-depth 4""",
    "show-failed": f"show {FAILED.base_id} --min-duration 100ms",
    "show-critical": f"show {SLOW.base_id} --critical",
    "findings": f"findings {FAILED.base_id}",
    "findings-many": "findings --root 'POST /v2.1/servers'",
    "stats": f"stats {SLOW.base_id}",
    "stats-critical": "stats --critical --since 2026-02-03 --service nova",
    "stats-statement": f"stats {SLOW.base_id} --by statement",
    "diff": f"""diff --fail-over 20% \\
    {FAST.base_id} {SLOW.base_id}""",
}


def outputs() -> Iterator[tuple[str, str]]:
    """The name of each file, and what is to be in it."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/examples.sqlite"
        storage = get_storage(url)
        storage.prepare()
        for example in (SLOW, FAST, FAILED, LISTED):
            storage.write(example.notifications())
        storage.close()
        for name, command in COMMANDS.items():
            out = io.StringIO()
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(out),
                mock.patch.dict(os.environ, COLUMNS=_COLUMNS),
            ):
                BridgeApp("profiler_bridge.report", "").run(
                    [
                        "--connection-string",
                        url,
                        *shlex.split(command.replace("\\\n", "")),
                    ]
                )
            text = f"$ profiler-bridge-report {command}\n{out.getvalue()}"
            yield (
                f"{name}.txt",
                "".join(f"{line.rstrip()}\n" for line in text.splitlines()),
            )


def pictures() -> Iterator[tuple[str, bytes]]:
    """The name of each file, and the PNG that is to be in it."""
    # They need the servers' clients, and Chromium.
    from tests.browser import Chromium, Page

    with tempfile.TemporaryDirectory() as folder, Chromium() as chromium:
        page = Page(chromium, Path(folder))

        def picture(height: int) -> bytes:
            page.resize(1120, height)
            page.next_frame()
            shot = page.call("Page.captureScreenshot", format="png")
            return base64.b64decode(shot["data"])

        def click_row(text: str) -> None:
            page.evaluate(
                "for (const row of document.querySelectorAll('#rows .row'))"
                "  row.id = row.hidden ? '' :"
                f"    row.textContent.includes({text!r}) ? 'wanted' : ''"
            )
            page.click("#wanted")

        page.resize(1120, 560)
        page.show(SLOW.trace())
        for text in ("GET /v3/auth/tokens", "GET /v2.0/networks"):
            click_row(text)
            page.press("ArrowLeft")
        click_row("POST /v2.1/servers")
        page.press("Escape")
        yield "timeline.png", picture(560)
        page.click("#show-statements")
        yield "statements.png", picture(240)
        page.click("#show-totals")
        yield "totals.png", picture(480)
        page.show(FAILED.trace())
        page.resize(1120, 480)
        page.click("#problems")
        click_row("select_destinations")
        page.press("Enter")
        yield "failed.png", picture(480)


def many() -> Iterator[Example]:
    """More of the same, as an hour brings them."""
    rng = seeded(10)
    for seed in range(100, 140):
        started = STARTED + rng.randrange(3700) * SECOND
        error = "NoValidHost" if seed % 9 == 0 else None
        yield boot(seed, started, subnets=rng.randrange(1, 40), error=error)
        yield show(seed + 100, STARTED + rng.randrange(3700) * SECOND)


def pictures_of_service() -> Iterator[tuple[str, bytes]]:
    """Likewise, of the service's own pages."""
    from tests import web
    from tests.browser import Chromium

    with tempfile.TemporaryDirectory() as folder, Chromium() as chromium:
        storage = get_storage(f"sqlite:///{folder}/examples.sqlite")
        storage.prepare()
        for example in (SLOW, FAST, FAILED, LISTED, *many()):
            storage.write(example.notifications())
        with web.served(web.application(storage)) as url:
            tab = web.Tab(chromium, Path(folder), url)
            ids = f"before={FAST.base_id}&after={SLOW.base_id}"
            for name, path, height in (
                ("traces", "/traces", 560),
                ("operations", "/operations", 480),
                ("compare", f"/compare?{ids}", 480),
                ("services", "/services", 560),
            ):
                tab.resize(1280, height)
                tab.go(path)
                tab.next_frame()
                shot = tab.call("Page.captureScreenshot", format="png")
                yield f"browser-{name}.png", base64.b64decode(shot["data"])
        storage.close()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in outputs():
        (FOLDER / name).write_text(text)
    for name, data in (*pictures(), *pictures_of_service()):
        (FOLDER / name).write_bytes(data)
