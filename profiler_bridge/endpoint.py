# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Metrics and health of the whole daemon, over HTTP.

Everything it says is read from :mod:`profiler_bridge.metrics`, so an alert
and a probe never differ.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import wsgiref.simple_server
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any

import prometheus_client
from prometheus_client import metrics_core

from profiler_bridge import exceptions, metrics

LOG = logging.getLogger(__name__)

# A worker is stuck when one write takes longer, in seconds: clients give up
# after 60, and a batch of which something is refused takes several.
STUCK = 300.0
# For a client that sends nothing, in seconds.
_TIMEOUT = 10


class _Handler(wsgiref.simple_server.WSGIRequestHandler):
    timeout = _TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        LOG.debug("%s %r", self.client_address[0], args)


class Endpoint(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """A web server, which listens as soon as it is made.

    :param host: an address
    :param port: of TCP
    :raises ConfigurationError: it cannot listen there
    """

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self._expected: Mapping[str, int] = {}
        try:
            super().__init__((host, port), _Handler)
        except (OSError, UnicodeError) as error:
            raise exceptions.ConfigurationError(
                f"metrics_port: cannot listen on {host} port {port}:"
                f" {getattr(error, 'strerror', None) or error}"
            ) from None
        registry = prometheus_client.CollectorRegistry()
        registry.register(self)
        self._metrics = prometheus_client.make_wsgi_app(registry)
        self.set_app(self._answer)

    def serve(self, expected: Mapping[str, int]) -> None:
        """Answer until the process ends.

        :param expected: by storage, how many workers there should be
        """
        self._expected = expected
        self.serve_forever()

    def server_bind(self) -> None:
        # The base would ask the domain name system for its name.
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = self.server_address[1]
        self.setup_environ()

    def collect(self) -> Iterator[metrics_core.Metric]:
        """What ``/metrics`` shows."""
        build = metrics_core.GaugeMetricFamily(
            "profiler_bridge_build_info",
            "Always 1; the version is a label.",
            labels=["version"],
        )
        build.add_metric([metadata.version("profiler_bridge")], 1)
        yield build
        workers = metrics_core.GaugeMetricFamily(
            "profiler_bridge_workers",
            "Worker processes that there should be.",
            labels=["storage"],
        )
        for storage, count in self._expected.items():
            workers.add_metric([storage], count)
        yield workers
        yield from metrics.read()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return self._metrics(environ, start_response)
        if path not in ("/healthz", "/readyz"):
            return _text(
                start_response,
                "404 Not Found",
                ["there are /metrics, /healthz and /readyz"],
            )
        found = {each.name: each for each in metrics.read()}
        problems = [*_stuck(found)]
        if path == "/readyz":
            problems += [
                *_disconnected(found, self._expected),
                *_waiting(found),
            ]
        if problems:
            return _text(start_response, "503 Service Unavailable", problems)
        return _text(start_response, "200 OK", ["ok"])


def _stuck(found: Mapping[str, metrics_core.Metric]) -> Iterator[str]:
    for storage, seconds in _values(found, metrics.WRITING).items():
        if seconds > STUCK:
            yield f"{storage}: a write has been going on for {seconds:.0f} s"


def _disconnected(
    found: Mapping[str, metrics_core.Metric], expected: Mapping[str, int]
) -> Iterator[str]:
    connected = _values(found, metrics.CONNECTED)
    for storage, count in expected.items():
        if connected.get(storage, 0) < count:
            yield (
                f"{storage}: {connected.get(storage, 0):.0f} of {count}"
                " workers are connected to the bus"
            )


def _waiting(found: Mapping[str, metrics_core.Metric]) -> Iterator[str]:
    for storage, waiting in _values(found, metrics.WAITING).items():
        if waiting:
            yield f"{storage}: is waited for"


def _values(
    found: Mapping[str, metrics_core.Metric], gauge: prometheus_client.Gauge
) -> dict[str, float]:
    """By storage; empty before any worker has begun."""
    # Its name is in what it describes itself as.
    [description] = gauge.describe()
    if description.name not in found:
        return {}
    return {
        each.labels["storage"]: each.value
        for each in found[description.name].samples
    }


def _text(
    start_response: Any, status: str, lines: Iterable[str]
) -> list[bytes]:
    start_response(
        status,
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Cache-Control", "no-store"),
        ],
    )
    return [f"{line}\n".encode() for line in lines]
