# SPDX-License-Identifier: Apache-2.0

"""What settled traces are sent to.

It is sent to, and tried again, as
https://opentelemetry.io/docs/specs/otlp/#otlphttp-response says.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import Protocol

from profiler_bridge.forward import json, protobuf
from profiler_bridge.forward.batches import Batch, Encoding, batches
from profiler_bridge.forward.client import Answer, Client, Unreachable
from profiler_bridge.forward.endpoint import Endpoint
from profiler_bridge.forward.headers import HeadersFile
from profiler_bridge.forward.outcomes import Drop, Outcome
from profiler_bridge.operation import operation
from profiler_bridge.report.text import shortened
from profiler_bridge.retry import pauses
from profiler_bridge.rules import Rule
from profiler_bridge.settled import Consumer, Settled
from profiler_bridge.summary import TraceSummary
from profiler_bridge.text import printable
from profiler_bridge.trace import Trace

LOG = logging.getLogger(__name__)

_ENCODINGS: dict[str, Encoding] = {"protobuf": protobuf, "json": json}
_TRY_AGAIN = (429, 502, 503, 504)
_TOO_LARGE = 413
# Seconds. A server that asks for more gets less.
_FIRST_PAUSE = 1.0
_LAST_PAUSE = 30.0
_LONGEST_RETRY_AFTER = 300.0
# So that those who were told the same do not come back all at once.
_SPREAD = 1.1
# The same is logged again after so many seconds.
_LOG_EVERY = 60.0
_LONGEST_MESSAGE = 200
# What is shorter is in many words.
_SHORTEST_SECRET = 4
# zlib's. Of spans it makes a tenth more bytes than the 6 to 9 that are usual,
# in half the time.
_LEVEL = 4
_GZIP = 31


class Report(Protocol):
    """Is told what a target does; a span is counted once, when it is done."""

    def count_sent(self, spans: int) -> None:
        """So many were taken."""

    def count_rejected(self, spans: int) -> None:
        """So many were not, of a request that was taken otherwise."""

    def count_dropped(self, reason: Drop, spans: int) -> None:
        """So many will not be sent again."""

    def count_request(self, outcome: Outcome) -> None:
        """A request had this outcome."""

    def report_waiting(self, waiting: bool) -> None:
        """Whether the target is waited for from now on."""


class Counts:
    """A :class:`Report` that adds up.

    :ivar dropped: spans, by their reasons
    :ivar requests: by their outcomes
    """

    def __init__(self) -> None:
        self.sent = self.rejected = 0
        self.dropped: Counter[Drop] = Counter()
        self.requests: Counter[Outcome] = Counter()
        self.waiting = False

    def count_sent(self, spans: int) -> None:
        self.sent += spans

    def count_rejected(self, spans: int) -> None:
        self.rejected += spans

    def count_dropped(self, reason: Drop, spans: int) -> None:
        self.dropped[reason] += spans

    def count_request(self, outcome: Outcome) -> None:
        self.requests[outcome] += 1

    def report_waiting(self, waiting: bool) -> None:
        self.waiting = waiting


class Target(Consumer):
    """A server that takes OTLP/HTTP.

    :param endpoint: where it is
    :param rules: one of them has to choose a trace; all are chosen without
    :param report: is told what happens; may be set later
    :raises ConfigurationError: its headers_file cannot be used
    """

    def __init__(
        self,
        endpoint: Endpoint,
        rules: Sequence[Rule] = (),
        report: Report | None = None,
    ) -> None:
        self.name = endpoint.name
        self.report: Report = Counts() if report is None else report
        self._endpoint = endpoint
        # Those last for which every span has to be looked at.
        self._rules = sorted(rules, key=lambda rule: rule.needs_operations)
        self._encoding = _ENCODINGS[endpoint.encoding]
        self._client = Client(endpoint)
        self._headers = {
            "Content-Type": self._encoding.CONTENT_TYPE,
            "User-Agent": (
                f"profiler-bridge/{metadata.version('profiler_bridge')}"
            ),
        }
        if endpoint.compress:
            self._headers["Content-Encoding"] = "gzip"
        if endpoint.authorization:
            self._headers["Authorization"] = endpoint.authorization
        self._headers_file = (
            HeadersFile(endpoint.headers_file)
            if endpoint.headers_file
            else None
        )
        self._is_waiting = False
        # By what was logged, when it may be again.
        self._logged: dict[str, float] = {}

    def __str__(self) -> str:
        """Its URL, without secrets."""
        return str(self._endpoint)

    def close(self) -> None:
        """Close its connection; it is opened again when it is needed."""
        self._client.close()

    def check(self) -> str:
        """Send a request without spans, once.

        :returns: what is wrong, in one line; empty if nothing is
        """
        try:
            answer = self._client.post(
                self._compressed(self._encoding.request({})),
                self._all_headers(),
            )
        except Unreachable as error:
            return str(error)
        if not 200 <= answer.status < 300:
            return f"it answers {answer.status}{self._said(answer)}"
        try:
            self._reader(answer).rejected(answer.body)
        except ValueError:
            return f"it answers {answer.status} with what is not OTLP"
        return ""

    def wants(self, summary: TraceSummary) -> bool:
        """Whether a rule chooses the trace, or may when it is read.

        What every span did is not known before.
        """
        try:
            return self._chooses(summary, _unknown)
        except _Unknown:
            return True

    def take(
        self, traces: Sequence[Settled], wait: Callable[[float], None]
    ) -> None:
        """Send what is new of these; returns when each span is done.

        ``wait`` is called with 0 before each request too.
        """
        try:
            for batch in batches(self._encoding, self._chosen(traces)):
                self._send(batch, wait)
        finally:
            if self._is_waiting:
                self._report_waiting(False)

    def _chosen(
        self, traces: Sequence[Settled]
    ) -> Iterator[tuple[Trace, Set[str]]]:
        for trace, summary, new in traces:
            if self._chooses(summary, lambda: _operations(trace)):  # noqa: B023 - called at once
                yield trace, new

    def _chooses(
        self,
        summary: TraceSummary,
        operations: Callable[[], Collection[str]],
    ) -> bool:
        return not self._rules or any(
            rule.matches(summary, operations) for rule in self._rules
        )

    def _send(self, batch: Batch, wait: Callable[[float], None]) -> None:
        body = self._compressed(batch.encode(self._encoding))
        answer = self._answer(body, wait)
        if self._is_waiting:
            LOG.info("%s answers again", self)
            self._report_waiting(False)
        if 200 <= answer.status < 300:
            self._accepted(answer, batch.spans)
        elif answer.status == _TOO_LARGE and batch.spans > 1:
            self.report.count_request(Outcome.TOO_LARGE)
            for half in batch.halves():
                self._send(half, wait)
        else:
            self._refused(answer, batch.spans)

    def _answer(self, body: bytes, wait: Callable[[float], None]) -> Answer:
        """The first that is not to be tried again."""
        for pause in pauses(first=_FIRST_PAUSE, last=_LAST_PAUSE):
            wait(0.0)
            answer, problem = self._post(body)
            if answer is None:
                self._await(Outcome.UNREACHABLE, problem)
            elif answer.status in _TRY_AGAIN:
                detail = f"it answers {answer.status}{self._said(answer)}"
                self._await(Outcome.BUSY, detail)
                pause = _retry_after(answer) or pause
            else:
                return answer
            wait(pause)
        raise AssertionError  # there is no last pause

    def _post(self, body: bytes) -> tuple[Answer | None, str]:
        """The answer, or why there is none."""
        try:
            return self._client.post(body, self._all_headers()), ""
        except Unreachable as error:
            return None, str(error)

    def _compressed(self, body: bytes) -> bytes:
        if not self._endpoint.compress:
            return body
        return zlib.compress(body, _LEVEL, _GZIP)

    def _all_headers(self) -> dict[str, str]:
        if self._headers_file is None:
            return self._headers
        given = self._headers_file.headers()
        names = {name.lower() for name in given}
        own = {
            name: value
            for name, value in self._headers.items()
            if name.lower() not in names
        }
        return {**own, **given}

    def _await(self, outcome: Outcome, problem: str) -> None:
        self.report.count_request(outcome)
        self._report_waiting(True)
        self._log("waits", f"is waited for: {problem}")

    def _report_waiting(self, waiting: bool) -> None:
        self._is_waiting = waiting
        self.report.report_waiting(waiting)

    def _accepted(self, answer: Answer, spans: int) -> None:
        rejected, why, is_otlp = 0, "", False
        with contextlib.suppress(ValueError):
            rejected, why = self._reader(answer).rejected(answer.body)
            is_otlp = True
        if not is_otlp:
            self._log(
                "strange",
                f"answers {answer.status} with what is not OTLP: is it what it"
                " should be?",
            )
        rejected = min(max(rejected, 0), spans)
        self.report.count_request(
            Outcome.PARTIAL if rejected else Outcome.ACCEPTED
        )
        self.report.count_sent(spans - rejected)
        if rejected:
            self.report.count_rejected(rejected)
            self._log(
                "rejects",
                f"has rejected {rejected} of {spans} spans{self._shown(why)}",
            )
        elif why:
            self._log(
                "warns",
                f"has taken {spans} spans with a warning{self._shown(why)}",
            )

    def _refused(self, answer: Answer, spans: int) -> None:
        reason, outcome = Drop.REFUSED, Outcome.REFUSED
        detail = self._said(answer)
        if answer.status == _TOO_LARGE:
            reason, outcome = Drop.TOO_LARGE, Outcome.TOO_LARGE
        elif 300 <= answer.status < 400:
            reason, outcome = Drop.REDIRECTED, Outcome.REDIRECTED
            detail = f", to {_cut(answer.headers.get('location', 'nowhere'))}"
        self.report.count_request(outcome)
        self.report.count_dropped(reason, spans)
        self._log(
            f"answers {answer.status}",
            f"has answered {answer.status}{detail}; {spans} spans are dropped",
        )

    def _said(self, answer: Answer) -> str:
        """What else an answer says, for a log."""
        try:
            text = self._reader(answer).refusal(answer.body)
        except ValueError:
            # Mostly plain text of a server or a proxy.
            text = answer.body.decode("utf-8", "replace").strip()
        return self._shown(text)

    def _shown(self, text: str) -> str:
        for secret in self._secrets():
            text = text.replace(secret, "***")
        return f": {_cut(text)}" if text else ""

    def _secrets(self) -> Iterator[str]:
        """What a server may repeat that nobody else is to see."""
        for name, value in self._all_headers().items():
            if name not in self._headers or name == "Authorization":
                # Whole, and without the kind of token before it.
                for secret in (value, value.split(" ")[-1]):
                    if len(secret) >= _SHORTEST_SECRET:
                        yield secret

    def _reader(self, answer: Answer) -> Encoding:
        """For the encoding in which an answer says that it is."""
        kind = answer.headers.get("content-type", "").partition(";")[0]
        kind = kind.strip().lower()
        if not answer.body:
            return self._encoding
        for encoding in _ENCODINGS.values():
            if kind == encoding.CONTENT_TYPE:
                return encoding
        raise ValueError("is not OTLP")

    def _log(self, what: str, problem: str) -> None:
        """Log a problem, unless the same was logged a short while ago."""
        now = time.monotonic()
        if now >= self._logged.get(what, 0.0):
            self._logged[what] = now + _LOG_EVERY
            LOG.warning("%s %s", self, problem)


class _Unknown(Exception):
    """What every span did decides, and is not known yet."""


def _unknown() -> Collection[str]:
    raise _Unknown


def _operations(trace: Trace) -> Collection[str]:
    return {operation(span.first) for span in trace.spans}


def _retry_after(answer: Answer) -> float | None:
    """For how many seconds a server asks, bounded; None where it does not.

    It says how many, or until when
    (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after).
    """
    asked = answer.headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdecimal():
        # Python reads no number of 5,000 digits.
        seconds = float(asked[:10])
    else:
        try:
            until = parsedate_to_datetime(asked)
            seconds = until.timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return None
    if seconds <= 0:
        return None
    spread = random.uniform(1.0, _SPREAD)  # noqa: S311 - no secret
    return min(seconds, _LONGEST_RETRY_AFTER) * spread


def _cut(text: str) -> str:
    return printable(shortened(text, _LONGEST_MESSAGE))
