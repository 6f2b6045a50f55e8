# SPDX-License-Identifier: Apache-2.0

"""Metrics and health of the whole daemon, over HTTP.

Everything it says is read from ``daemon.metrics``, so an alert
and a probe never differ.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import wsgiref.simple_server
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import cotyledon
import prometheus_client
from oslo_config import cfg
from prometheus_client import core

from profiler_bridge import exceptions
from profiler_bridge.bus.transport import GROUP
from profiler_bridge.daemon import metrics
from profiler_bridge.daemon.liveness import Liveness
from profiler_bridge.daemon.routes import get_routes

LOG = logging.getLogger(__name__)

# Of a bus and of a storage.
_Names = tuple[str, str]
# Seconds after which a client that sends nothing is let go.
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
        self._routes: Sequence[_Names] = ()
        self._workers = 0
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

    def serve(
        self,
        routes: Sequence[_Names],
        workers: int,
        liveness: Liveness,
        set_aside: str,
    ) -> None:
        """Answer until the process ends.

        :param routes: of each, in their order, the names of bus and storage
        :param workers: how many there should be for each route
        :param liveness: where their loops report
        :param set_aside: the file that they may wait for
        """
        self._routes = routes
        self._workers = workers
        self._liveness = liveness
        self._set_aside = set_aside
        self.serve_forever()

    def server_bind(self) -> None:
        # The base class would look up the host's name in the DNS.
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = self.server_address[1]
        self.setup_environ()

    def collect(self) -> Iterator[core.Metric]:
        """What ``/metrics`` shows."""
        build = core.GaugeMetricFamily(
            "profiler_bridge_build_info",
            "Always 1; the version is a label.",
            labels=["version"],
        )
        build.add_metric([metadata.version("profiler_bridge")], 1)
        yield build
        workers = core.GaugeMetricFamily(
            "profiler_bridge_workers",
            "Worker processes that there should be.",
            labels=metrics.BY_ROUTE,
        )
        for names in self._routes:
            workers.add_metric(names, self._workers)
        yield workers
        yield from metrics.read()

    def _late_workers(self) -> Iterator[str]:
        for number, (bus, storage) in enumerate(self._routes):
            for worker, seconds in self._liveness.late(number, self._workers):
                yield (
                    f"{storage}: worker {worker} for {bus} is stuck, or does"
                    f" not start: its timeout passed {seconds:.0f} s ago"
                )

    def _not_ready(self) -> Iterator[str]:
        """What else there is to wait for, before notifications are stored."""
        current = {metric.name: metric for metric in metrics.read("gauge")}
        connections = _values(current, metrics.CONNECTED, metrics.BY_ROUTE)
        for bus, storage in self._routes:
            connected = connections.get((bus, storage), 0)
            if connected < self._workers:
                yield (
                    f"{storage}: {connected:.0f} of {self._workers} workers"
                    f" are connected to {bus}"
                )
        for (storage,), waiting in _values(
            current, metrics.WAITING, metrics.BY_STORAGE
        ).items():
            if waiting:
                yield f"{storage}: the storage is waited for"
        waiting_for_file = _values(
            current, metrics.SET_ASIDE_WAITING, metrics.BY_STORAGE
        )
        for (storage,), waiting in waiting_for_file.items():
            if waiting:
                yield (
                    f"{storage}: the set-aside file {self._set_aside} is"
                    " waited for"
                )

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
        problems = [*self._late_workers()]
        if path == "/readyz":
            problems += self._not_ready()
        if problems:
            return _text(start_response, "503 Service Unavailable", problems)
        return _text(start_response, "200 OK", ["ok"])


class MetricsServer(cotyledon.Service):
    """The process that serves metrics and health of all the others."""

    name = "metrics"

    def __init__(
        self,
        worker_id: Any,
        conf: cfg.ConfigOpts,
        endpoint: Endpoint,
        liveness: Liveness,
    ) -> None:
        super().__init__(worker_id)
        self._endpoint = endpoint
        self._liveness = liveness
        self._set_aside = conf[GROUP].set_aside
        self._workers = conf[GROUP].workers
        self._routes = [
            (str(route.bus), str(route.storage)) for route in get_routes(conf)
        ]

    def run(self) -> None:
        self._endpoint.serve(
            self._routes, self._workers, self._liveness, self._set_aside
        )


def _values(
    current: Mapping[str, core.Metric],
    gauge: prometheus_client.Gauge,
    labels: Sequence[str],
) -> dict[tuple[str, ...], float]:
    """A gauge's values by its labels; empty before any worker has begun.

    :param current: all metrics, by name
    """
    # A gauge gives its name only when it describes itself.
    [description] = gauge.describe()
    if description.name not in current:
        return {}
    return {
        tuple(sample.labels[name] for name in labels): sample.value
        for sample in current[description.name].samples
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
