# SPDX-License-Identifier: Apache-2.0

"""The service's pages, served on loopback, and a browser's tab of them."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import flask
from oslo_config import cfg
from werkzeug.serving import WSGIRequestHandler, make_server

from profiler_bridge.api.app import make_app
from profiler_bridge.storage.traces import Storage
from tests.browser import Chromium, Page


def application(storage: Storage) -> flask.Flask:
    """The whole service, as it is on loopback."""
    conf = cfg.ConfigOpts()
    conf([])
    return make_app(conf, storage, is_local=True)


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(app: flask.Flask) -> Iterator[str]:
    """Serve an application; give its URL."""
    server = make_server(
        "127.0.0.1", 0, app, threaded=True, request_handler=_Quiet
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Tab(Page):
    """A tab that shows pages of the service."""

    def __init__(self, chromium: Chromium, folder: Path, url: str) -> None:
        super().__init__(chromium, folder)
        self.url = url

    def go(self, path: str) -> None:
        self.call("Page.navigate", url=f"{self.url}{path}")
        self.wait_until_there(re.split("[?#]", path)[0])

    def wait_until_there(self, path: str) -> None:
        """Wait for a page whose path begins so, and is all there."""
        self.wait_for(
            f"location.pathname.startsWith({path!r})"
            " && document.readyState === 'complete'"
        )

    def texts(self, selector: str) -> list[str]:
        texts: list[str] = self.evaluate(
            f"[...document.querySelectorAll({selector!r})]"
            ".map(element => element.innerText.trim())"
        )
        return texts

    def query(self) -> str:
        return str(self.evaluate("decodeURIComponent(location.search)"))

    def scheme(self, name: str) -> None:
        """Have it be light or dark."""
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": name}],
        )


@contextlib.contextmanager
def watched(
    chromium: Chromium, storage: Storage, folder: Path
) -> Iterator[Tab]:
    """Serve a storage; give a tab in which nothing may go wrong.

    Nor may it ask anybody but the service.
    """
    with served(application(storage)) as url:
        tab = Tab(chromium, folder, url)
        yield tab
        assert tab.events("Runtime.exceptionThrown") == []
        assert tab.events("Page.javascriptDialogOpening") == []
        said = [
            event["params"]["entry"]
            for event in tab.events("Log.entryAdded")
            # A browser asks for it by itself.
            if not event["params"]["entry"]
            .get("url", "")
            .endswith("/favicon.ico")
        ]
        assert said == []
        assert all(
            event["params"]["request"]["url"].startswith(url)
            for event in tab.events("Network.requestWillBeSent")
        )
        tab.close()
