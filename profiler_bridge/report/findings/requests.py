# SPDX-License-Identifier: Apache-2.0

"""Requests that a service sent again, and tokens validated again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from profiler_bridge import path
from profiler_bridge.operation import kind, operation
from profiler_bridge.report.findings.finding import (
    Finding,
    Limits,
    Rule,
    Subject,
    ended,
    service,
)
from profiler_bridge.trace import Span

_READING = ("GET", "HEAD")
_LONGEST_SHOWN = 100


def repeated(subject: Subject, limits: Limits) -> Iterator[Finding]:
    """The same question to the same API again, of which the answer is known.

    A service asked it twice, by GET or HEAD with equal path and query, while
    it answered one request or call. In between it changed nothing by another
    request, and was busy all the time. Who polls is not: it waits, and asks
    again to see what others have changed meanwhile. So a pause of
    ``limits.pause`` in which nothing of it ran makes the next question a new
    one. Clients, above the roots, are not looked at, because most of their
    own work is not known. What POST and PUT send is not known either, nor are
    headers.

    Questions for tokens have a rule of their own.
    """
    groups: dict[tuple[str, int, str], list[Span]] = defaultdict(list)
    until: dict[str, int] = {}
    # How often a service paused or changed something, by what it answers.
    ages: Counter[str] = Counter()
    for span in subject.spans:
        parent = subject.parents.get(span.trace_id)
        if parent is None:
            continue
        asker = subject.entries[parent.trace_id].trace_id
        is_call = subject.entries[span.trace_id] is span
        # A function around others may as well be asleep.
        if span.children and not is_call and kind(span.first) != "http":
            continue
        over = until.get(asker, span.started)
        if span.started > over + limits.pause:
            ages[asker] += 1
        request = _request(span)
        # Who casts does not wait until the call is done.
        is_busy = request or not is_call
        until[asker] = max(over, ended(span) if is_busy else span.started)
        if not request or kind(parent.first) == "http":
            continue
        if request.get("method") not in _READING:
            ages[asker] += 1
        elif _has_worked(span) and not _is_of_token(request):
            groups[asker, ages[asker], _key(request)].append(span)
    for spans in groups.values():
        if len(spans) < 2:
            continue
        if not subject.is_worth(subject.cost(spans)[1], limits):
            continue
        first = spans[0]
        did = operation(first.first)
        parent = subject.parents[first.trace_id]
        entry = subject.entries[parent.trace_id]
        yield subject.finding(
            Rule.REPEATED_REQUEST,
            did,
            f"{did} was asked for {len(spans):,} times, with the same path"
            f" and query, by {service(parent)} in {operation(entry.first)}",
            spans,
            service(parent),
        )


def _request(span: Span) -> Mapping[str, Any]:
    """What was asked for: by who sends it or, if not known, who answers."""
    info = span.first.info
    request = info.get("request") or info.get("requests")
    return request if isinstance(request, dict) else {}


def _key(request: Mapping[str, Any]) -> str:
    """Texts alone are equal only if all of it is."""
    return repr(
        [
            str(request.get(part))
            for part in ("method", "hostname", "port", "path", "query")
        ]
    )


def _has_worked(span: Span) -> bool:
    if span.stop is None or span.exception is not None:
        return False
    answer = span.stop.info.get("requests")
    status = answer.get("status_code") if isinstance(answer, dict) else None
    return not isinstance(status, int) or status < 400


def _is_of_token(request: Mapping[str, Any]) -> bool:
    asked = request.get("path")
    return isinstance(asked, str) and path.is_authentication(asked)


def validated(subject: Subject, limits: Limits) -> Iterator[Finding]:
    """Tokens that services had Keystone validate, again and again.

    Each service asks once for a token, and keeps the answer for some minutes;
    where they share a cache one asks for all. Which token it is about is not
    known, and a request may bring two: the user's, and that of the service.
    So ``limits.tokens`` should be more than two.
    """
    spans = []
    askers: Counter[str] = Counter()
    for span in subject.spans:
        parent = subject.parents.get(span.trace_id)
        if parent is None or kind(parent.first) == "http":
            continue
        request = _request(span)
        if request.get("method") in _READING and _is_of_token(request):
            spans.append(span)
            askers[service(parent)] += 1
    if len(spans) < limits.tokens:
        return
    if not subject.is_worth(subject.cost(spans)[1], limits):
        return
    shown = [
        f"{who} ({times:,} times)" if times > 1 else who
        for who, times in askers.most_common(4)
    ]
    if len(askers) > len(shown):
        shown.append(f"{len(askers) - len(shown):,} more")
    yield subject.finding(
        Rule.REPEATED_TOKEN,
        operation(spans[0].first),
        f"tokens were validated {len(spans):,} times, for {', '.join(shown)}",
        spans,
    )
