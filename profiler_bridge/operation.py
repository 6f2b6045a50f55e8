# SPDX-License-Identifier: Apache-2.0

"""What a span did, what varies between executions taken out. Pure.

It is read off a span's first notification: its start, or its stop where the
start is missing, which says less. Payloads come from the bus, and anything
may be in them. Nothing here raises, and every text is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from profiler_bridge import path, statement
from profiler_bridge.notification import START, Notification
from profiler_bridge.text import printable

#: No operation is longer.
LONGEST = 200

_KIND_BY_SECTION = {"request": "wsgi", "requests": "http", "db": "db"}
_KIND_BY_NAME = {
    "wsgi": "wsgi",
    "rpc": "rpc",
    "db": "db",
    "http": "http",
    "https": "http",
}

_MOST_READ = 2000
_LONGEST_METHOD = 20
# Of classes called so every package has one, often in a module called so.
_COMMON_CLASSES = frozenset(
    ("API", "Client", "ClientWrapper", "Controller", "Driver", "Manager")
)
_COMMON_MODULES = frozenset(
    (
        *("api", "backends", "base", "client", "controller", "controllers"),
        *("core", "driver", "drivers", "manager", "managers", "rpcapi"),
    )
)
# What decorators call the function that they put in place of another.
_WRAPPERS = frozenset(
    (
        *("decorated", "decorator", "inner", "outer", "wrapped", "wrapper"),
        *("decorated_function", "func_wrapper", "_wrapped", "_wrapper"),
    )
)
_Match = Callable[[str, int], re.Match[str] | None]
_is_version = re.compile(r"v[0-9]++(?:_[0-9]++)?+").fullmatch
# What osprofiler makes of arguments with str().
_bound_method = re.compile(r"<bound method ([\w.]{1,100}) of ").search
_first_argument = re.compile(r"\(<([\w.]{1,200}) object at ").match
_class_of = re.compile(r"(\w{1,64})\(").match
_name_of = re.compile(r"'(\w{1,64})'").match


def kind(first: Notification) -> str:
    """How a span is measured: by what it is, not by what it did.

    :returns: ``wsgi``, a request that the service answered; ``http``, one
        that it sent; ``rpc``; ``db``; ``function``, another function whose
        name is known; or ``other``
    """
    info = first.info
    for section, its_kind in _KIND_BY_SECTION.items():
        if isinstance(info.get(section), dict):
            return its_kind
    # "db" is osprofiler's own example; services say "neutron.db" as well.
    by_name = _KIND_BY_NAME.get(first.name.rpartition(".")[2])
    if by_name is not None:
        return by_name
    return "function" if _section(info, "function") else "other"


def operation(first: Notification) -> str:
    """What a span did, for a person and to sum by.

    ===========  =======================================================
    ``wsgi``     ``POST /v2.1/servers/{id}/action``
    ``http``     ``http GET /v2.0/ports/{id}``, whichever host it went to
    ``db``       ``SELECT project, role``
    a function   ``ComputeManager.build_and_run_instance``
    otherwise    the trace point's name
    ===========  =======================================================

    :returns: on one line and printable, not empty; :data:`LONGEST`
        characters at most
    """
    info = first.info
    for section, read in _READERS:
        fields = info.get(section)
        if isinstance(fields, dict):
            did = read(fields)
            if did:
                return _bounded(did)
    return _bounded(first.name)


def operations(notifications: Iterable[Notification]) -> set[str]:
    """What all the spans of a trace did.

    :param notifications: all of the trace's, in any order
    """
    # Of each span the first: stops say less.
    first: dict[str, Notification] = {}
    for notification in notifications:
        if notification.phase == START:
            first[notification.trace_id] = notification
        else:
            first.setdefault(notification.trace_id, notification)
    return {*map(operation, first.values())}


def function_name(first: Notification) -> str:
    """The full name of the function that a span ran; empty for none."""
    return _text(_section(first.info, "function"), "name")


def _bounded(text: str) -> str:
    text = printable(text[: LONGEST + 1])
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _answered(request: Mapping[str, Any]) -> str:
    method = _text(request, "method")[:_LONGEST_METHOD]
    asked = _text(request, "path")
    return f"{method} {path.template(asked) if asked else ''}".strip()


def _sent(request: Mapping[str, Any]) -> str:
    did = _answered(request)
    return did and f"http {did}"


def _statement(db: Mapping[str, Any]) -> str:
    return statement.describe(_text(db, "statement"))


def _function(function: Mapping[str, Any]) -> str:
    name = _text(function, "name")[:_MOST_READ]
    if not name:
        return ""
    plain, _, local = name.partition(".<locals>")
    args = _text(function, "args")[:_MOST_READ]
    if local:
        # A wrapper, mostly: only whose method it wraps is known.
        owner = _first_argument(args)
        if owner:
            return owner[1].rpartition(".")[2]
        own = local.rpartition(".")[2]
        if own in _WRAPPERS or not own:
            return _short(plain)
        return _short(f"{plain.rpartition('.')[2]}.{own}")
    method = name.rpartition(".")[2]
    if method == "proxy":
        wrapped = _bound_method(args)
        if wrapped is not None:
            package = name.rsplit(".", 2)[0]
            return _short(f"{package}.{wrapped[1]}")
    elif method.startswith("object_"):
        return _of_object(function, method) or _short(name)
    return _short(name)


def _of_object(function: Mapping[str, Any], method: str) -> str:
    """Which method of which object Nova's conductor was asked for.

    Otherwise heartbeats and what a request does would be one operation.
    """
    kwargs = _text(function, "kwargs")
    owner = _argument(kwargs, "objinst", _class_of)
    owner = owner or _argument(kwargs, "objname", _name_of)
    of_owner = _argument(kwargs, "objmethod", _name_of)
    return f"{owner}.{of_owner or method}" if owner else ""


def _argument(kwargs: str, key: str, match: _Match) -> str:
    """The first of such arguments, as far as the pattern has it."""
    before = f"'{key}': "
    at = kwargs.find(before)
    matched = match(kwargs, at + len(before)) if at >= 0 else None
    return matched[1] if matched else ""


def _short(name: str) -> str:
    """The class and the method; the package too where many have the class."""
    parts = name.rsplit(".", 2)
    if len(parts) == 3 and parts[1] in _COMMON_CLASSES:
        package = next(
            (
                part
                for part in reversed(parts[0].split("."))
                if part not in _COMMON_MODULES and not _is_version(part)
            ),
            "",
        )
        return ".".join(filter(None, (package, *parts[1:])))
    return ".".join(parts[-2:])


def _section(info: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    value = info.get(section)
    return value if isinstance(value, dict) else {}


def _text(section: Mapping[str, Any], key: str) -> str:
    value = section.get(key)
    return value if isinstance(value, str) else ""


_READERS = (
    ("request", _answered),
    ("requests", _sent),
    ("db", _statement),
    ("function", _function),
)
