# SPDX-License-Identifier: Apache-2.0

"""What the service counts of itself, for Prometheus.

A server with several processes answers with what one of them counted, unless
``PROMETHEUS_MULTIPROC_DIR`` names a folder, where prometheus_client adds up
what all did.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import prometheus_client
from prometheus_client import multiprocess


class Requests:
    """Counts of answers."""

    def __init__(self) -> None:
        registry = prometheus_client.CollectorRegistry()
        shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        if shared:
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        own = None if shared else registry
        self._answers = prometheus_client.Counter(
            "profiler_bridge_api_requests",
            "Requests that were answered.",
            ("route", "status"),
            registry=own,
        )
        self._seconds = prometheus_client.Histogram(
            "profiler_bridge_api_request_seconds",
            "From a request to the end of its answer.",
            ("route",),
            registry=own,
        )
        self._app = prometheus_client.make_wsgi_app(registry)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count an answer.

        :param route: the pattern of its path; empty where there is none
        :param seconds: from the request to its end
        """
        self._answers.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answer(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """The WSGI application that ``/metrics`` is."""
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer
