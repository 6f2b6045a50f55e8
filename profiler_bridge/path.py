# SPDX-License-Identifier: Apache-2.0

"""Paths of requests to OpenStack's APIs: what in them is variable. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

#: Of a longer path the rest is not looked at.
_MOST_READ = 2000
_MOST_SEGMENTS = 16
#: How many UUIDs of one path count. No API has more than three.
MOST_IDS = 4

_HEX = "[0-9a-fA-F]"
_UUID = rf"{_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}"
_is_id = re.compile(
    rf"(?:req-)?{_UUID}|{_HEX}{{32}}|[0-9]++", re.ASCII
).fullmatch
_uuids = re.compile(rf"(?<![\w-]){_UUID}(?![\w-])").finditer
_is_version = re.compile(r"v[0-9]++(?:\.[0-9]++)?+").fullmatch
# No API's own words have a space, a percent sign, or letters beyond ASCII.
_is_word = re.compile(r"[\w.:-]{1,64}", re.ASCII).fullmatch

# What follows a word that ends in s is the name of one of these, such as
# /flavors/tiny and /traits/HW_CPU_X86_AVX; but for what follows these words,
_NO_COLLECTIONS = frozenset(
    (
        *("actions", "fwaas", "lbaas", "metadefs", "os-services", "qos"),
        *("scheduler-stats", "schemas", "states", "tasks"),
    )
)
# and these, which APIs have for all of a collection.
_NO_NAMES = frozenset(
    (
        *("action", "actions", "cleanup", "config", "count", "default"),
        *("defaults", "detail", "details", "disable", "enable", "export"),
        *("force-down", "import", "import_record", "manage", "policies"),
        *("preview", "project", "search", "statistics", "stats", "status"),
        *("summary", "tasks", "tenant", "unmanage"),
    )
)
# Where DevStack and others put the services behind one address.
_PREFIXES = frozenset(
    (
        *("application-catalog", "baremetal", "clustering", "compute"),
        *("container", "container-infra", "data-processing", "database"),
        *("dns", "identity", "image", "instance-ha", "key-manager"),
        *("load-balancer", "messaging", "metric", "network", "networking"),
        *("object-store", "orchestration", "placement", "rating", "share"),
        *("volume", "volumev3", "workflow"),
    )
)
_OBJECTS = ("{account}", "{container}", "{object}")


def template(path: str) -> str:
    """A path with ``{id}`` for what is variable: ``/v2.1/servers/{id}``.

    Variable are UUIDs, 32 hexadecimal digits, numbers, and what an API's own
    word cannot be; and names, known by what is before them: ``metadata``, or
    a plural such as ``flavors``. An object store's path is ``/v1/{account}``,
    with ``/{container}/{object}`` where it has these.

    :returns: without the query, and without a slash at its end
    """
    segments = path[:_MOST_READ].partition("?")[0].split("/")
    parts: list[str] = []
    before = ""
    for at, segment in enumerate(segments[:_MOST_SEGMENTS]):
        if segment.startswith("AUTH_"):
            parts.extend(_OBJECTS[: len([*filter(None, segments[at:])])])
            break
        if not segment or _is_literal(segment, before):
            parts.append(segment)
            before = segment or before
        else:
            parts.append("{id}")
            before = ""
    else:
        if len(segments) > _MOST_SEGMENTS:
            parts.append("…")
    return "/".join(parts).rstrip("/") or "/"


def _is_literal(segment: str, before: str) -> bool:
    """Whether a segment is a word of an API.

    :param before: the word before it; empty where that is variable
    """
    if _is_version(segment) or segment in _NO_NAMES:
        return True
    if _is_id(segment) or not _is_word(segment):
        return False
    if before == "metadata":
        return False
    return (
        not before.endswith("s")
        or before in _NO_COLLECTIONS
        # An extension of Keystone, as in /users/{id}/credentials/OS-EC2.
        or segment.startswith("OS-")
    )


def uuids(path: str) -> Sequence[str]:
    """The UUIDs in a path, in lower case: servers, images, networks.

    Only those with dashes: 32 hexadecimal digits are projects and users, in
    nearly every path of some services.

    :returns: once each, in their order, :data:`MOST_IDS` at most
    """
    if path.count("-") < 4:
        return ()
    ids = (uuid[0].lower() for uuid in _uuids(path[:_MOST_READ]))
    return [*dict.fromkeys(ids)][:MOST_IDS]


def is_discovery(path: str) -> bool:
    """Whether a path names at most a version: ``/``, ``/identity/v3``."""
    segments = _words(path)
    if segments and (
        segments[0] in _PREFIXES
        or (len(segments) > 1 and _is_version(segments[1]))
    ):
        segments = segments[1:]
    return all(map(_is_version, segments))


def is_authentication(path: str) -> bool:
    """Whether a path is of Keystone's tokens, which most requests need."""
    segments = _words(path)
    if segments[-1:] == ["tokens"]:
        return True
    return any(
        segment == "auth" and _is_version(version)
        for version, segment in itertools.pairwise(segments)
    )


def _words(path: str) -> list[str]:
    segments = path[:_MOST_READ].partition("?")[0].split("/")
    return [*filter(None, segments)]
