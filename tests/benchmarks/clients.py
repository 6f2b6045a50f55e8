# SPDX-License-Identifier: Apache-2.0

"""Clients of the HTTP service, who ask for what people look at."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from profiler_bridge.notification import format_timestamp
from profiler_bridge.testing.sample import seeded
from tests.benchmarks.payloads import SERVICES
from tests.benchmarks.service import Answer, Connection, Service

#: Traces of a list.
PAGE = 20
#: Points of a trace that is not long.
SHORT = 20
#: What requests were for, in turn.
KINDS = ("flavors", "images", "networks", "ports", "volumes")
# Traces of which every span is read for an answer.
_READ = 20


class Stored(NamedTuple):
    """What there is.

    :param points: of each trace, how many
    :param since: when the first started, microseconds since 1970
    :param until: when all had
    """

    points: Mapping[str, int]
    since: int
    until: int


class Request(NamedTuple):
    """What became of a request.

    :param what: its kind
    :param seconds: until all of the answer was there
    :param failed: why, if it was
    """

    what: str
    seconds: float
    failed: str


def ask(
    service: Service, stored: Stored, clients: int, seconds: float
) -> list[Request]:
    """Have clients ask at the same time, each again when it was answered.

    :returns: the requests of all of them
    """
    end = time.monotonic() + seconds
    all_of_them = [
        _Client(service.connect(), stored, number) for number in range(clients)
    ]
    threads = [
        threading.Thread(target=client.ask_until, args=(end,))
        for client in all_of_them
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [request for client in all_of_them for request in client.requests]


class _Failed(Exception):
    pass


class _Client:
    """Asks for one thing after the other."""

    def __init__(
        self, connection: Connection, stored: Stored, number: int
    ) -> None:
        self._connection = connection
        self._stored = stored
        self._base_ids = [*stored.points]
        self._rng = seeded(number)
        self.requests: list[Request] = []

    def ask_until(self, end: float) -> None:
        questions = (
            *(self._list_and_open, self._filter, self._search, self._zipkin),
            *(self._operations, self._open, self._open),
        )
        while time.monotonic() < end:
            try:
                self._rng.choice(questions)()
            except _Failed:
                continue
        self._connection.close()

    def _get(
        self,
        what: str,
        path: str,
        part: str = "",
        times: int = 1,
        *,
        etag: str = "",
    ) -> Answer:
        """Ask for a path.

        :param part: what has to be in the answer so many times
        :param etag: of the answer that there is already
        :raises _Failed: the answer is another, which is noted
        """
        began = time.monotonic()
        headers = {"If-None-Match": etag} if etag else {}
        failed = ""
        try:
            answer = self._connection.get(path, headers)
        except (OSError, http.client.HTTPException) as error:
            answer, failed = None, f"{path}: {error!r}"
        taken = time.monotonic() - began
        if answer is not None:
            there = answer.body.count(part.encode())
            if answer.status != (304 if etag else 200):
                failed = f"{path}: {answer.status} {answer.body[:200]!r}"
            elif not etag and there != times:
                failed = f"{path}: {part} {there} times, not {times}"
        self.requests.append(Request(what, taken, failed))
        if answer is None or failed:
            raise _Failed
        return answer

    # Kinds of questions

    def _list_and_open(self) -> None:
        """The newest, the page after that, one of its traces."""
        row = '"Base ID"'
        first = self._get("list", f"/v1/traces?limit={PAGE}", row, PAGE)
        marker = json.loads(first.body)[-1]["Base ID"]
        path = f"limit={PAGE}&marker={marker}"
        rows = json.loads(
            self._get("second page", f"/v1/traces?{path}", row, PAGE).body
        )
        self._get("page of a list", f"/traces?{path}", "</tr>", PAGE + 1)
        self._open(rows[0]["Base ID"])

    def _filter(self) -> None:
        service = f"shop:{self._rng.choice(SERVICES)}"
        kind = self._rng.choice(KINDS)
        until = format_timestamp(
            self._rng.randrange(
                (self._stored.since + self._stored.until) // 2,
                self._stored.until,
            )
        )
        filters: Mapping[str, str] = self._rng.choice(
            (
                {"root": f"GET /v3/{kind}", "until": until},
                {"root": "GET /v3/*s", "service": f"!{service}"},
                {"service": service, "until": until},
                {"error": "1"},
                {"min-duration": "100ms"},
                {"sort": "duration"},
            )
        )
        path = urlencode({**filters, "limit": PAGE})
        self._get("filtered page", f"/traces?{path}", "</tr>", PAGE + 1)

    def _open(self, base_id: str = "") -> None:
        """A trace's page, and that again, which has not changed."""
        base_id = base_id or self._rng.choice(self._base_ids)
        path = f"/traces/{base_id}"
        answer = self._get("trace", path, "<title>", 1)
        self._get("trace that is known", path, etag=answer.etag)

    def _search(self) -> None:
        """As Grafana does with Jaeger's API."""
        path = urlencode(
            {
                "service": f"shop-{self._rng.choice(SERVICES)}",
                "start": self._stored.since,
                "end": self._stored.until,
                "limit": _READ,
                "lookback": "custom",
            }
        )
        answer = self._get(
            "Jaeger search", f"/api/traces?{path}", '"processes"', _READ
        )
        [*_, last] = json.loads(answer.body)["data"]
        # As its ids are without dashes.
        self._get(
            "trace for Jaeger",
            f"/api/traces/{last['traceID']}",
            "operationName",
            len(last["spans"]),
        )

    def _zipkin(self) -> None:
        base_id = self._rng.choice(self._base_ids)
        self._get(
            "trace for Zipkin",
            f"/api/v2/trace/{base_id.replace('-', '')}",
            '"traceId"',
            self._stored.points[base_id] // 2,
        )

    def _operations(self) -> None:
        path = f"/operations?limit={_READ}"
        self._get("operations of traces", path, "<title>", 1)
