# SPDX-License-Identifier: Apache-2.0

"""A real browser, and a page of it that shows a trace."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import select
import time
from pathlib import Path
from typing import Any

from profiler_bridge.report import html
from profiler_bridge.trace import Trace
from tests import servers


class Chromium(servers.Server):
    """A headless browser, spoken to in its DevTools protocol over pipes."""

    stop_timeout = 10

    def __init__(self) -> None:
        self.program = servers.find("chromium", "chromium", "chromium-browser")
        super().__init__()
        self._ids = itertools.count(1)
        self._received = b""
        self.events: list[dict[str, Any]] = []

    def command(self) -> list[str]:
        return [
            self.program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            f"--user-data-dir={self.data}",
            "--remote-debugging-pipe",
        ]

    def prepare(self) -> None:
        self._theirs, self._ours = [], []
        for theirs, ours in (os.pipe(), os.pipe()[::-1]):
            # Away from 3 and 4, where Chromium expects its ends.
            self._theirs.append(fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 10))
            self._ours.append(ours)
            os.close(theirs)

    def _options(self) -> dict[str, Any]:
        def place_pipes() -> None:
            os.dup2(self._theirs[0], 3)
            os.dup2(self._theirs[1], 4)

        return super()._options() | {
            "preexec_fn": place_pipes,
            "close_fds": False,
        }

    def check(self) -> None:
        self.call("Browser.getVersion")

    def close(self) -> None:
        super().close()
        for pipe in self._theirs + self._ours:
            os.close(pipe)

    def call(self, method: str, session: str = "", **params: Any) -> Any:
        """Give a command; return its result."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._ours[0], json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while b"\0" not in self._received:
            if select.select([self._ours[1]], [], [], 0.5)[0]:
                self._received += os.read(self._ours[1], 2**20)
            elif not self.running or time.monotonic() > deadline:
                raise RuntimeError(f"Chromium does not answer:\n{self.tail()}")
        message, _, self._received = self._received.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


class Page:
    """A tab of the browser that shows a trace."""

    def __init__(self, chromium: Chromium, folder: Path) -> None:
        self.chromium = chromium
        self.path = folder / "trace.html"
        self.target = self._new_target()
        self.session = chromium.call(
            "Target.attachToTarget", targetId=self.target, flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(1280, 800)

    def _new_target(self) -> str:
        target = self.chromium.call("Target.createTarget", url="about:blank")
        return str(target["targetId"])

    def call(self, method: str, **params: Any) -> Any:
        return self.chromium.call(method, self.session, **params)

    def close(self) -> None:
        self.chromium.call("Target.closeTarget", targetId=self.target)

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def show(self, trace: Trace) -> None:
        self.path.write_text("".join(html.render(trace)), "ascii")
        self.call("Page.navigate", url=self.path.as_uri())
        self.wait_for("document.readyState === 'complete'")
        self.wait_for("document.getElementById('facts').children.length")

    def evaluate(self, expression: str) -> Any:
        result = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        assert servers.wait_until(lambda: self.evaluate(expression), 30), (
            expression
        )

    def next_frame(self) -> None:
        self.evaluate(
            "new Promise(done => requestAnimationFrame("
            "() => requestAnimationFrame(() => done())))"
        )

    def events(self, *methods: str) -> list[dict[str, Any]]:
        return [
            event
            for event in self.chromium.events
            if event.get("sessionId") == self.session
            and event["method"] in methods
        ]

    def text(self, selector: str) -> str:
        """What a reader sees of an element."""
        return str(
            self.evaluate(
                f"document.querySelector({json.dumps(selector)}).innerText"
            )
        )

    def box(self, selector: str) -> dict[str, float]:
        box: dict[str, float] = self.evaluate(
            f"document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect().toJSON()"
        )
        return box

    def mouse(self, event: str, x: float, y: float, clicks: int = 1) -> None:
        self.call(
            "Input.dispatchMouseEvent",
            type=event,
            x=x,
            y=y,
            button="left",
            clickCount=clicks,
        )

    def click(self, selector: str) -> None:
        """Click on the middle of an element, or on what covers it."""
        box = self.box(selector)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def press(self, key: str, text: str = "", modifiers: int = 0) -> None:
        for event in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=event,
                key=key,
                text=text if event == "keyDown" else "",
                modifiers=modifiers,
                # Without it the browser does nothing of its own with a key.
                windowsVirtualKeyCode={"Tab": 9, "Enter": 13}.get(key, 0),
            )

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def rows(self) -> list[dict[str, str]]:
        """The rows that are drawn, from the top."""
        rows: list[dict[str, str]] = self.evaluate(
            """
            [...document.querySelectorAll("#rows .row:not([hidden])")]
              .map(row => ({
                ...Object.fromEntries([...row.attributes]
                  .filter(({ name }) => name.startsWith("aria-"))
                  .map(({ name, value }) => [name.slice(5), value])),
                ...Object.fromEntries([...row.querySelectorAll("[class]")]
                  .map(cell => [cell.classList[0], cell.textContent])),
              }))
              .sort((a, b) => a.rowindex - b.rowindex)
            """
        )
        return rows

    def names(self) -> list[str]:
        return [row["name"] for row in self.rows()]

    def selected(self) -> str:
        (name,) = [
            row["name"] for row in self.rows() if row["selected"] == "true"
        ]
        return name

    def bar(self, name: str) -> tuple[float, float]:
        """Where a span's bar begins and ends: 0 and 1 are the ruler's."""
        bar: list[float] = self.evaluate(
            f"""
            (() => {{
              const row = [...document.querySelectorAll("#rows .row")].find(
                row => row.querySelector(".name").textContent === "{name}");
              const bar = row.querySelector(".bar").getBoundingClientRect();
              const all = row.querySelector(".time").getBoundingClientRect();
              return [bar.left, bar.right].map(
                x => (x - all.left) / all.width);
            }})()
            """
        )
        return bar[0], bar[1]
