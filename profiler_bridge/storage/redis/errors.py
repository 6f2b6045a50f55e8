# SPDX-License-Identifier: Apache-2.0

"""What redis-py's errors mean, and what to do about them."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoPermissionError,
    TryAgainError,
)

from profiler_bridge import exceptions
from profiler_bridge.storage.redis.url import FILES, Target

#: What a user of the server needs, to go on with after what it lacks.
RIGHTS = (
    "the user needs the keys osprofiler:* and profiler_bridge:*, the commands"
    " in @read, @write and @connection, and INFO; to delete, those in"
    " @transaction"
)
_CLUSTER = "this is a Redis Cluster: write rediscluster:// for redis://"
_ADVICE: Sequence[tuple[type[Exception], str]] = (
    (
        redis.AuthenticationError,
        "check user and password in the connection string",
    ),
    (NoPermissionError, RIGHTS),
    (InvalidResponse, "check host and port: this is no Redis server"),
    (AskError, _CLUSTER),
    (MovedError, _CLUSTER),
    (ClusterCrossSlotError, _CLUSTER),
)
# What passes by itself; some is known by its code only.
_PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    MasterDownError,
)
_is_no_cluster = re.compile(
    "(ERR )?(This instance has cluster support disabled"
    "|unknown command .?CLUSTER)"
).match
_is_passing = re.compile(
    "BUSY|FAILOVER|MASTERDOWN|MISCONF|NOREPLICAS|UNBLOCKED|UNKILLABLE"
).match


def translated(
    error: redis.RedisError, name: str, target: Target
) -> exceptions.StorageError:
    """A client's error as one of ours.

    :param name: the connection string without secrets
    :param target: what the URL says
    """
    what = f"{name}: {line(error)}"
    if target.is_cluster:
        if isinstance(error, AskError | ClusterDownError | TryAgainError):
            # A MovedError is an AskError. Slots are on their way.
            return exceptions.StorageUnavailable(
                f"{name}: {type(error).__name__} {line(error)}"
            )
        if isinstance(error, NoPermissionError):
            return exceptions.StorageMisconfigured(
                f"{what}: {RIGHTS}, on each node, and CLUSTER SLOTS"
            )
        if _is_no_cluster(line(error)):
            return exceptions.StorageMisconfigured(
                f"{what}: this is no Redis Cluster: write redis:// for a"
                " server alone, redissentinel:// for sentinels"
            )
    if to_do := advice(error, target.options):
        return exceptions.StorageMisconfigured(f"{what}: {to_do}")
    if isinstance(error, _PASSING) or _is_passing(line(error)):
        return exceptions.StorageUnavailable(what)
    return exceptions.StorageMisconfigured(what)


def line(error: BaseException) -> str:
    """A client's error in one line, to go on after."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def advice(error: Exception, options: Mapping[str, Any]) -> str:
    """What to do about an error that does not pass by itself.

    :param options: of the URL
    :returns: nothing where there is no advice, or the error may pass
    """
    for kind, to_do in _ADVICE:
        if isinstance(error, kind):
            return to_do
    if isinstance(error, ClusterDownError):
        return "" if isinstance(error, MasterDownError) else _CLUSTER
    if is_foreign(error):
        return "delete what is not profiler_bridge's in its keys"
    if "DB index" in str(error):
        return "check the number of the database in the connection string"
    cause = error.__context__
    if options.get("ssl") or options.get("sentinel_ssl"):
        for name in FILES:
            path = options.get(name)
            if path is not None and not os.access(path, os.R_OK):
                return f"{name} is {path}, which cannot be read"
        if isinstance(cause, ssl.SSLError) and not isinstance(
            cause, ssl.SSLEOFError | ssl.SSLZeroReturnError
        ):
            return "check the options for TLS, ssl_ca_certs and others"
    return ""


def is_foreign(error: Exception) -> bool:
    """Whether a key holds what somebody else put there."""
    return str(error).startswith("WRONGTYPE")
