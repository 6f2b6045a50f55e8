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
from typing import IO, Any

from profiler_bridge import config, exceptions
from profiler_bridge.cmd.app import BridgeCommand
from profiler_bridge.notification import Notification, points
from profiler_bridge.report.text import printable

# So many bytes of points may wait for the broker to confirm them.
_IN_HAND = 10_000_000
NOT_TAKEN = 2


class Send(BridgeCommand):
    """Put points on the bus: for tests, replays, other languages' programs

    The bus is that of the configuration file. The exit code is 0 when the
    broker has every point, 1 when there were lines that are none, 2 when the
    bus does not take them.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "file",
            metavar="FILE",
            help="has in each line, as JSON, a point, or many in one object,"
            " or the notification of oslo.messaging that they came in; - is"
            " the standard input",
        )
        parser.add_argument(
            "--timeout",
            type=float,
            default=30.0,
            metavar="SECONDS",
            help="how long the bus may take for each 10 MB of points"
            " (default: %(default)g)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        # What they have to say of the bus is said here, in one line.
        for name in (
            *("oslo.messaging", "oslo_messaging", "oslo_service"),
            "profiler_bridge.notifier",
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
        # Imported here, for few commands need the bus.
        from profiler_bridge import listener, notifier, queue

        conf = config.prepare(
            [f"--config-file={path}" for path in self.app.options.config_file],
            *config.modules(),
        )
        transport = listener.get_transport(conf)
        try:
            found = queue.inspect(transport, notifier.TOPIC)
        finally:
            transport.cleanup()
        if found is not None and not found.usable:
            raise exceptions.BusUnavailable(found.problem)
        one = notifier.BufferedNotifier(
            partial(listener.get_transport, conf),
            socket.gethostname(),
            None,
            None,
            buffer_size=_IN_HAND,
        )
        waiting = size = 0
        for number, line in enumerate(lines, 1):
            for point in self._points(number, line):
                length = len(json.dumps(point))
                if length > notifier.LARGEST_POINT:
                    self._complain(number, "a point has more than 15 MB")
                    continue
                one.notify(point)
                waiting += 1
                size += length
            if size > _IN_HAND:
                self._wait(one, waiting)
                waiting = size = 0
        self._wait(one, waiting)
        one.stop()

    def _wait(self, notifier: Any, points: int) -> None:
        if not notifier.flush(self._timeout):
            notifier.stop(0)
            raise exceptions.BusUnavailable(
                f"the bus did not take points within {self._timeout:g} s; all"
                " may be sent again, for none is stored twice"
            )
        self._sent += points

    def _points(self, number: int, line: bytes) -> Iterator[dict[str, Any]]:
        """The good points of a line; says what is wrong with the others."""
        if not line.strip():
            return
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            self._complain(number, f"is no JSON: {error}")
            return
        if isinstance(found, dict) and "base_id" not in found:
            found = found.get("payload", found)
        for each in points(found):
            try:
                point = dict(Notification.from_payload(each).payload)
            except exceptions.InvalidNotification as error:
                self._complain(number, str(error))
            else:
                yield point

    def _complain(self, number: int, problem: str) -> None:
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
