# SPDX-License-Identifier: Apache-2.0

"""What the service counts of itself, for Prometheus.

A server with several processes answers with what one of them counted, unless
``PROMETHEUS_MULTIPROC_DIR`` names a folder, where prometheus_client adds up
what all did.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import prometheus_client
from prometheus_client import multiprocess

from profiler_bridge import exceptions

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Requests:
    """Counts of answers.

    :raises ConfigurationError: the folder cannot be written to
    """

    def __init__(self) -> None:
        registry = prometheus_client.CollectorRegistry()
        shared = _FOLDER in os.environ
        if shared:
            folder = os.environ[_FOLDER]
            if not Path(folder).is_dir() or not os.access(folder, os.W_OK):
                raise exceptions.ConfigurationError(
                    f"{_FOLDER}={folder} is no folder that can be written to:"
                    " make it, and empty it before each start of the server"
                )
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
