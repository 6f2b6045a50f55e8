# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage simulate."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import re
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cliff.show import ShowOne

from profiler_bridge import arguments, config, exceptions
from profiler_bridge.cmd.app import BridgeCommand
from profiler_bridge.text import printable

if TYPE_CHECKING:
    from profiler_bridge.simulation.load import Load
    from profiler_bridge.simulation.run import Outcome

_DAY = 86_400
NOT_TAKEN = 2
#: Bytes of a point by how the scheme of a storage begins, as measured for
#: ``doc/source/admin/sizing.rst``.
STORED_BYTES = {
    **{"sqlite": 88, "mysql": 152, "mariadb": 152, "postgresql": 97},
    **{"redis": 780, "unix": 780},
}


class Simulate(BridgeCommand, ShowOne):
    """Put made-up traces on the bus, to see what the bridge can take

    The traces have the shapes of a real cloud's: requests to Keystone, and
    among them server creates, which go through eight services. They go to the
    bus of the configuration file, the first if it has several, as services
    would send them. All of their services are of the project 'simulated'.

    The exit code is 0 when all was sent at the rate and, if the storage can be
    read, was stored; 1 when not; 2 when the bus does not take it.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--rate",
            type=_rate,
            default=1.0,
            metavar="N",
            help="Requests a second (default: %(default)g).",
        )
        parser.add_argument(
            "--seconds",
            type=_seconds,
            default=60.0,
            metavar="N",
            help="How long new requests begin, at most a day; the last ones"
            " take up to 19 seconds more (default: %(default)g).",
        )
        parser.add_argument(
            "--creates",
            type=_creates,
            default=20,
            metavar="N",
            help="One of this many requests is a server create, which has"
            " twelve times the points of the others; 0 is for none (default:"
            " %(default)d).",
        )
        parser.add_argument(
            "--services",
            type=_services,
            default=8,
            metavar="N",
            help="How many processes send, at most 64. There are eight"
            " services: with fewer some share one, with more the busy ones"
            " have several (default: %(default)d).",
        )
        parser.add_argument(
            "--driver",
            choices=("messaging", "bridge"),
            default="messaging",
            help="How services send: with osprofiler's messaging://, or with"
            " bridge:// (default: %(default)s).",
        )
        parser.add_argument(
            "--points",
            type=arguments.positive,
            default=1_000_000,
            metavar="N",
            help="Refuse to send more points than this"
            " (default: %(default)d).",
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        self._code = 0
        try:
            super().run(parsed_args)
        except exceptions.BusUnavailable as error:
            self._fail(str(error), NOT_TAKEN)
        return self._code

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Any]]:
        # Errors of the bus are reported here, in one line.
        for name in (
            *("oslo.messaging", "oslo_messaging", "oslo_service", "amqp"),
            "profiler_bridge.sender",
        ):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        load = _load(parsed_args)
        with contextlib.closing(_Signals()) as signals:
            outcome = self._send(load, parsed_args.driver, signals.stopped)
            arrived = self._arrival(load, outcome, signals.stopped)
        rows = self._rows(load, outcome, arrived)
        self._judge(load, outcome)
        return [*rows], [*rows.values()]

    def _send(
        self, load: Load, driver: str, stopped: Callable[[], bool]
    ) -> Outcome:
        """Send all of it, when something takes it."""
        # Imported here, as few commands need the bus.
        from profiler_bridge.bus import broker
        from profiler_bridge.bus.transport import get_buses, get_transport
        from profiler_bridge.sender.notifier import TOPIC
        from profiler_bridge.simulation import run
        from profiler_bridge.simulation.service import Driver

        conf = config.prepare(
            [f"--config-file={path}" for path in self.app.options.config_file],
            *config.modules(),
        )
        bus = get_buses(conf)[0]
        if bus.name.startswith("fake:"):
            raise exceptions.ConfigurationError(
                "the bus fake:// does not leave a process: set transport_url"
            )
        transport = get_transport(conf)

        def depth() -> int | None:
            try:
                queue = broker.inspect(transport, TOPIC, rights=False)
            except exceptions.BusUnavailable:
                return None
            return None if queue is None else queue.messages

        try:
            broker.require(transport, TOPIC)
            self._tell(
                f"Sending to {bus}, project simulated: {load.requests}"
                f" requests, {load.points} points, in"
                f" {load.requests / load.rate + load.longest:.0f} s"
            )
            return run.run(conf, Driver(driver), load, depth, stopped)
        finally:
            transport.cleanup()

    def _rows(
        self, load: Load, outcome: Outcome, arrived: dict[str, Any]
    ) -> dict[str, Any]:
        sent = outcome.sent
        points = max(1, sent.points)
        rows: dict[str, Any] = {
            "requests": outcome.requests,
            "requests/s": round(outcome.rate, 2),
            "points sent": sent.points,
            "points lost": sent.lost,
            "seconds": round(outcome.seconds, 1),
            "points/s": round(sent.points / outcome.seconds, 1),
            "messages": sent.messages,
            "messages/s": round(sent.messages / outcome.seconds, 1),
            "bytes/point, in messages": round(sent.size / points, 1),
            "CPU of sending, us/point": round(sent.cpu * 1e6 / points, 1),
            "most messages in the queue": outcome.most_waiting,
            "messages in the queue at the end": outcome.waiting,
        }
        rows |= arrived
        a_day = load.rate * _DAY * load.points / load.requests
        rows |= {
            "points/day at this rate": round(a_day),
            "GB/day at this rate, in messages": round(
                a_day * sent.size / points / 1e9, 2
            ),
        }
        if size := self._stored_bytes():
            rows["GB/day at this rate, stored"] = round(a_day * size / 1e9, 2)
        return rows

    def _judge(self, load: Load, outcome: Outcome) -> None:
        """Tell what went wrong with sending."""
        sent = outcome.sent
        if sent.failure:
            self._fail(
                f"the bus did not take {sent.lost} points: {sent.failure}",
                NOT_TAKEN,
            )
        if not outcome.whole:
            self._fail("it was stopped: the last traces are incomplete")
        if outcome.behind:
            self._fail(
                f"{load.rate:g} requests/s were not reached, but"
                f" {outcome.rate:.3g}: this host or the bus cannot take more"
                " by this --driver"
            )

    def _arrival(
        self, load: Load, outcome: Outcome, stopped: Callable[[], bool]
    ) -> dict[str, Any]:
        """What the storage says of it."""
        from profiler_bridge.simulation import arrival

        try:
            storage = self.storage
            storage.check()
            arrived = arrival.wait(
                storage,
                load,
                outcome.requests,
                outcome.began,
                outcome.ended,
                stopped,
            )
        except exceptions.BridgeError as error:
            self._tell(f"What is stored is not known: {error}")
            return {}
        if arrived.seconds is None and not outcome.sent.lost and not stopped():
            self._fail(
                f"{arrived.complete} of {outcome.requests} traces are complete"
                f" in {storage}, and no more come: does a daemon run?"
            )
        rows: dict[str, Any] = {"complete traces stored": arrived.complete}
        if arrived.seconds is not None:
            rows["last trace stored after, s"] = round(arrived.seconds, 1)
        return rows

    def _stored_bytes(self) -> int | None:
        """Of a point in this kind of storage; None: not known."""
        with contextlib.suppress(exceptions.BridgeError):
            scheme = re.split(r"[+:]", str(self.storage))[0]
            return next(
                (
                    size
                    for prefix, size in STORED_BYTES.items()
                    if scheme.startswith(prefix)
                ),
                None,
            )
        return None

    def _fail(self, problem: str, code: int = 1) -> None:
        self._tell(problem)
        self._code = max(self._code, code)

    def _tell(self, text: str) -> None:
        self.app.stderr.write(f"{printable(text)}\n")
        self.app.stderr.flush()


def _load(parsed_args: argparse.Namespace) -> Load:
    """What is asked for.

    :raises ConfigurationError: it is more than --points allows
    """
    from profiler_bridge.simulation.load import Load

    load = Load(
        parsed_args.rate,
        max(1, math.floor(parsed_args.rate * parsed_args.seconds)),
        parsed_args.creates,
        parsed_args.services,
    )
    if load.points > parsed_args.points:
        raise exceptions.ConfigurationError(
            f"this would be {load.points} points, more than --points"
            f" {parsed_args.points}: lower --rate or --seconds, or raise"
            " --points"
        )
    return load


class _Signals:
    """Whether somebody wants this to end: by Ctrl-C, or SIGTERM."""

    def __init__(self) -> None:
        self._came = False
        self._before = {
            number: signal.signal(number, self._note)
            for number in (signal.SIGINT, signal.SIGTERM)
        }

    def _note(self, *_: object) -> None:
        self._came = True

    def stopped(self) -> bool:
        return self._came

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _between(text: str, least: float, most: float, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(
            f"must be {what} from {least:g} to {most:g}"
        )
    return number


def _rate(text: str) -> float:
    return _between(text, 0.01, 100_000, "a number")


def _seconds(text: str) -> float:
    return _between(text, 1, _DAY, "a number")


def _whole(text: str, least: int, most: int) -> int:
    number = _between(text, least, most, "a whole number")
    if number % 1:
        raise argparse.ArgumentTypeError("must be a whole number")
    return int(number)


def _services(text: str) -> int:
    return _whole(text, 1, 64)


def _creates(text: str) -> int:
    return _whole(text, 0, 1_000_000)
