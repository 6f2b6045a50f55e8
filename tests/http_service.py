# SPDX-License-Identifier: Apache-2.0

"""The HTTP service's own paths, served from a thread."""

from __future__ import annotations

import argparse
import contextlib
import logging
import ssl
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import flask
from werkzeug.serving import make_server

from profiler_bridge import exceptions
from profiler_bridge.api import native
from profiler_bridge.storage.traces import Storage
from tests.servers import Certificates


def application(storage: Storage) -> flask.Flask:
    """An application with nothing but these."""
    app = flask.Flask(__name__)
    app.config["STORAGE"] = storage
    app.config["OPTIONS"] = SimpleNamespace(max_limit=1500, time_limit=10.0)
    app.register_blueprint(native.blueprint())

    def answer(error: Exception) -> tuple[str, int]:
        is_wish = isinstance(error, argparse.ArgumentTypeError)
        return str(error), 400 if is_wish else 404

    app.register_error_handler(argparse.ArgumentTypeError, answer)
    app.register_error_handler(exceptions.TraceNotFound, answer)
    return app


@contextlib.contextmanager
def serving(
    storage: Storage, certificates: Certificates | None = None
) -> Iterator[str]:
    """Give ``127.0.0.1:port``."""
    context = None
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate, certificates.key)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(
        "127.0.0.1",
        0,
        application(storage),
        threaded=True,
        ssl_context=context,
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
