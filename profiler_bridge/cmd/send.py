# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage send."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import socket
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from profiler_bridge import config, exceptions
from profiler_bridge.cmd.app import BridgeCommand
from profiler_bridge.notification import Notification, points
from profiler_bridge.text import printable

if TYPE_CHECKING:
    from profiler_bridge.sender.notifier import BufferedNotifier

# So many bytes of points may wait for the broker to confirm them.
_UNCONFIRMED_BYTES = 10_000_000
NOT_TAKEN = 2


class Send(BridgeCommand):
    """Put points on the bus: for tests, replays, other languages' programs

    The bus is that of the configuration file, the first if it has several. The
    exit code is 0 when the broker has every point, 1 when some lines were no
    points, 2 when the bus does not take them.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "file",
            metavar="FILE",
            help="A file of JSON lines. Each is a point, many points in one"
            " object, or the notification of oslo.messaging that they came in;"
            " - is the standard input.",
        )
        parser.add_argument(
            "--timeout",
            type=float,
            default=30.0,
            metavar="SECONDS",
            help="How long the bus may take for each 10 MB of points"
            " (default: %(default)g).",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        # Errors of the bus are reported here, in one line.
        for name in (
            *("oslo.messaging", "oslo_messaging", "oslo_service"),
            "profiler_bridge.sender",
        ):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._timeout = parsed_args.timeout
        self._sent = self._bad = 0
        code = 0
        with _open(parsed_args.file) as lines:
            try:
                self._send(lines)
            except exceptions.BusUnavailable as error:
                self.app.stderr.write(f"{printable(str(error))}\n")
                code = NOT_TAKEN
        self.app.stdout.write(f"{self._sent} points sent\n")
        return code or (1 if self._bad else 0)

    def _send(self, lines: Iterable[bytes]) -> None:
        # Imported here, as few commands need the bus.
        from profiler_bridge.bus import broker
        from profiler_bridge.bus.transport import get_transport
        from profiler_bridge.sender import ending
        from profiler_bridge.sender.notifier import (
            LARGEST_POINT,
            TOPIC,
            BufferedNotifier,
        )

        conf = config.prepare(
            [f"--config-file={path}" for path in self.app.options.config_file],
            *config.modules(),
        )
        transport = get_transport(conf)
        try:
            broker.require(transport, TOPIC)
        finally:
            transport.cleanup()
        notifier = BufferedNotifier(
            partial(get_transport, conf),
            socket.gethostname(),
            None,
            None,
            buffer_size=_UNCONFIRMED_BYTES,
            on_start=ending.watch_signals,
        )
        ending.call_at_end(notifier.flush)
        waiting = size = 0
        for number, line in enumerate(lines, 1):
            for point in self._points(number, line):
                length = len(json.dumps(point))
                if length > LARGEST_POINT:
                    self._report(number, "a point has more than 15 MB")
                    continue
                notifier.notify(point)
                waiting += 1
                size += length
            if size > _UNCONFIRMED_BYTES:
                self._wait_for_broker(notifier, waiting)
                waiting = size = 0
        self._wait_for_broker(notifier, waiting)
        notifier.stop()

    def _wait_for_broker(
        self, notifier: BufferedNotifier, points: int
    ) -> None:
        if not notifier.flush(self._timeout):
            notifier.stop(0)
            raise exceptions.BusUnavailable(
                f"the bus did not take points within {self._timeout:g} s; all"
                " may be sent again, as none is stored twice"
            )
        self._sent += points

    def _points(self, number: int, line: bytes) -> Iterator[dict[str, Any]]:
        """Yield a line's good points, and report what is wrong with others."""
        if not line.strip():
            return
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            self._report(number, f"is no JSON: {error}")
            return
        if isinstance(content, dict) and "base_id" not in content:
            content = content.get("payload", content)
        for payload in points(content):
            try:
                point = dict(Notification.from_payload(payload).payload)
            except exceptions.InvalidNotification as error:
                self._report(number, str(error))
            else:
                yield point

    def _report(self, number: int, problem: str) -> None:
        self._bad += 1
        self.app.stderr.write(f"line {number}: {printable(problem)}\n")


def _open(name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if name == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise exceptions.BridgeError(
            f"{printable(name)}: {error.strerror}"
        ) from None
