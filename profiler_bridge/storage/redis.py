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

"""Storage in Redis.

The keys, where a *piece* is what one write brought of one trace::

    osprofiler:<base_id>_<trace_id>_<timestamp>_<digest>
        string: a notification. osprofiler's own command finds and reads it.
    profiler_bridge:keys:<base_id>
        hash: the names of those keys, packed, by the digest of the piece
    profiler_bridge:summary:<base_id>
        hash: the partial summaries, packed, by the digest of the piece
    profiler_bridge:index:<digest of a term>
        sorted set, all of one score: the positions of traces, as text

What is written depends on nothing that was read, except where a trace stands
in the index (see :mod:`profiler_bridge.query`). So writes can be repeated,
and done in any order.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import re
import sqlite3
import time
import urllib.parse
import zlib
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from hashlib import blake2b
from typing import Any, ClassVar

import redis
from oslo_config import cfg
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
)
from redis.retry import Retry

from profiler_bridge import exceptions
from profiler_bridge.notification import Notification
from profiler_bridge.query import (
    PartialSummary,
    TraceQuery,
    TraceSummary,
    index_terms,
)
from profiler_bridge.storage.base import Piece, Position, Storage
from profiler_bridge.storage.retention import RETENTION

Command = tuple[str | bytes, ...]

OPTS: Sequence[cfg.Opt] = [
    RETENTION,
    cfg.IntOpt(
        "wait_replicas",
        min=0,
        help="How many replicas must confirm a write to Redis; until they do,"
        " messages stay on the bus. A master that fails takes with it what no"
        " replica has. By default it is one where there is one, and none"
        " where there is none: a plain Redis server is asked which replicas"
        " are connected; sentinels are asked which they ever saw, down or"
        " not, so that a master cut off from its replicas stores nothing."
        " Set this to 0 to go on without replicas that will not come back,"
        " or make the sentinels forget them with SENTINEL RESET.",
    ),
]

# A client's timeout is for each time it sends or waits, in seconds. That of
# the sentinel's plugin is short: so is what is asked for at once, and there is
# a patient client for what is large, or must wait for replicas.
_TRIP_COMMANDS = 1000
_TRIP_BYTES = 256 * 1024
# With more than ten words Redis closes the connection of who gave no password,
# where it would say so otherwise.
_MSET_VALUES = 4
PATIENCE = 5.0
_READ_KEYS = 100
# In seconds: for this long it is believed how many replicas there are, ...
_REPLICAS_KNOWN = 10.0
# ... and so often the index is searched for traces that have expired.
_SWEEP_EVERY = 60.0
_SWEEP_MEMBERS = "1000"

#: Options of every connection to a server of data.
CLIENT: Mapping[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    # A base_id that somebody asks for can be any text.
    "encoding_errors": "surrogatepass",
    # The collector tries again, with better pauses.
    "retry": Retry(NoBackoff(), 0),
}

_is_url = re.compile(
    "(rediss?://([^/?#]*@)?[^@/?#]*/?[0-9]*|unix://([^/?#]*@)?/[^?#]+)"
    r"(\?[^@#]*)?"
).fullmatch
# What osprofiler's drivers wrote, as lists and as values. Ours have one more
# part.
_ID = "([0-9a-fA-F-]{32,36})"
_is_theirs = re.compile(
    f"osprofiler_opt:{_ID}|osprofiler:{_ID}_[^_]+_[^_]+"
).fullmatch
_may_be_theirs = re.compile(
    "osprofiler_opt:(.*)|osprofiler:([^_]*)_[^_]+_[^_]+", re.DOTALL
).fullmatch


class RedisStorage(Storage):
    """A Redis server.

    :param connection_string: a URL as :meth:`redis.Redis.from_url` takes it
    :param retention: seconds; 0 is for ever
    :param wait_replicas: None for the default, see the option
    :raises ConfigurationError: the URL cannot be used
    """

    OPTS: ClassVar[Sequence[cfg.Opt]] = OPTS
    expires = True

    #: Read, list and show what osprofiler's own drivers stored, too. This
    #: looks at every key of the database.
    include_osprofiler = False

    def __init__(
        self,
        connection_string: str,
        *,
        retention: int = 0,
        wait_replicas: int | None = None,
    ) -> None:
        self._masked = _masked(connection_string)
        self._retention = retention
        self._wait_replicas = wait_replicas
        self._client = self._make_client(connection_string)
        self._patient_client = self._client
        self._replicas = 0
        self._replicas_until = 0.0
        self._next_sweep = 0.0
        # By digest of a term: how far its index has been searched.
        self._sweep_cursors: dict[str, int] = {}
        # What osprofiler wrote, of the traces that are being listed.
        self._theirs: Mapping[str, PartialSummary] = {}
        self._their_index: Sequence[Position] = ()

    def _make_client(self, url: str) -> redis.Redis:
        try:
            if not _is_url(url):
                raise ValueError
            (urllib.parse.urlsplit(url).hostname or "").encode("idna")
            pool = redis.ConnectionPool.from_url(
                url,
                socket_connect_timeout=PATIENCE,
                socket_timeout=PATIENCE,
                **CLIENT,
            )
            # The URL must not change these.
            pool.connection_kwargs.update(CLIENT)
            # Made to see whether it takes the URL's options; not connected.
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError, redis.RedisError):
            # The client's words may hold a part of the password.
            raise exceptions.ConfigurationError(
                "the connection string is not like"
                " redis://[[user]:password@]host[:port][/db] or"
                " unix://[[user]:password@]/path[?db=N], or has options that"
                " do not exist; in the password write %2F for / and so on"
            ) from None
        return redis.Redis(connection_pool=pool)

    # Writing

    def insert(self, pieces: Sequence[Piece]) -> Collection[bytes]:
        lifetime = ("EX", str(self._retention)) if self._retention else ()
        commands: list[Command] = []
        known_by: dict[int, bytes] = {}
        for piece in pieces:
            names = []
            values: list[tuple[str, str]] = []
            for each in piece.notifications:
                # 32 bits are enough for what happened in one span at one
                # moment.
                digest = f"{each.digest() & 0xFFFFFFFF:08x}"
                name = f"{each.trace_id}_{each.payload['timestamp']}_{digest}"
                names.append(name)
                key = f"osprofiler:{each.base_id}_{name}"
                values.append((key, each.text))
            if lifetime:
                commands += (("SET", *pair, *lifetime) for pair in values)
            else:
                commands += _msets(values)
            # The summary last: where it is, all of the piece is.
            for kind, text in (
                # Sorted, for both ends of a span share most of their names.
                ("keys", "\n".join(sorted(names))),
                ("summary", piece.summary.to_text()),
            ):
                last = len(commands)
                packed = zlib.compress(text.encode("ascii"))
                key = _key(kind, piece.base_id)
                commands += self._kept(
                    ("HSET", key, piece.digest.hex(), packed)
                )
            known_by[last] = piece.digest
        replies = self._run(commands, self._replicas_to_wait_for())
        return {known_by[at] for at in known_by if not replies[at]}

    def add_to_index(self, entries: Mapping[str, Sequence[Position]]) -> None:
        commands: list[Command] = []
        for term, positions in entries.items():
            for chunk in _chunks(map(_member, positions), _TRIP_COMMANDS):
                scored = (text for each in chunk for text in ("0", each))
                key = _key("index", _digest(term))
                commands += self._kept(("ZADD", key, *scored))
            self._sweep_cursors.setdefault(_digest(term), 0)
        self._run(commands, self._replicas_to_wait_for())
        if self._retention and time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + min(
                _SWEEP_EVERY, self._retention
            )
            self._sweep()

    def _kept(self, command: Command) -> list[Command]:
        """The command, and one that makes its key last as it should."""
        if not self._retention:
            return [command]
        return [command, ("EXPIRE", command[1], str(self._retention))]

    def _replicas_to_wait_for(self) -> int:
        if self._wait_replicas is not None:
            return self._wait_replicas
        if time.monotonic() >= self._replicas_until:
            self._replicas = min(1, self._count_replicas())
            self._replicas_until = time.monotonic() + _REPLICAS_KNOWN
        return self._replicas

    def _count_replicas(self) -> int:
        (info,) = self._run([("INFO", "replication")])
        replicas = (each for each in info.values() if isinstance(each, dict))
        return sum(each.get("state") == "online" for each in replicas)

    def _sweep(self) -> None:
        """Take traces that have expired out of the index.

        In no order: a trace expires by when it was written last, and stands
        where it started, by a clock that may have been wrong. Only under the
        terms that were written to here: other terms expire as a whole.
        """
        for term, cursor in [*self._sweep_cursors.items()]:
            key = _key("index", term)
            while True:
                ((cursor, found),) = self._run(
                    [("ZSCAN", key, str(cursor), "COUNT", _SWEEP_MEMBERS)]
                )
                gone = self._expired([_text(member) for member, _ in found])
                self._run([("ZREM", key, each) for each in gone])
                # Some may have been written to meanwhile. Whoever does so
                # later, adds them later.
                back = set(gone).difference(self._expired(gone))
                self._run([("ZADD", key, "0", each) for each in back])
                # Go on while it is worth it.
                if not cursor or len(gone) < len(found) / 10:
                    break
            self._sweep_cursors[term] = cursor

    def _expired(self, members: Sequence[str]) -> list[str]:
        """Those members of the index whose traces are gone."""
        exist = self._run(
            [
                ("EXISTS", _key("summary", _position(m).base_id))
                for m in members
            ]
        )
        return [
            m for m, there in zip(members, exist, strict=True) if not there
        ]

    # Reading

    def notifications(self, base_id: str) -> list[Notification]:
        found = [*_notifications(self._values(self._keys(base_id)), base_id)]
        if self.include_osprofiler:
            keys = self._their_keys(base_id).get(base_id, ())
            found += self._their_notifications(base_id, keys)
        return list({each.text: each for each in found}.values())

    def partials(
        self, base_ids: Iterable[str]
    ) -> Mapping[str, Mapping[bytes, PartialSummary]]:
        found: dict[str, dict[bytes, PartialSummary]] = {}
        for chunk in _chunks(base_ids, _READ_KEYS):
            hashes = self._run(
                [("HGETALL", _key("summary", base_id)) for base_id in chunk]
            )
            for base_id, values in zip(chunk, hashes, strict=True):
                pieces = dict(_partials(values or {}))
                if base_id in self._theirs:
                    pieces[b"osprofiler"] = self._theirs[base_id]
                if pieces:
                    found[base_id] = pieces
        return found

    def index(
        self, term: str, before: Position | None, since: int | None, count: int
    ) -> Sequence[Position]:
        end = "+" if before is None else f"({_member(before)}"
        start = "-" if since is None else f"[{_member(Position(since, ''))}"
        stretch = (end, start, "LIMIT", "0", str(count))
        (members,) = self._run(
            [("ZREVRANGEBYLEX", _key("index", _digest(term)), *stretch)]
        )
        found = {_position(_text(member)) for member in members}
        found.update(
            each
            for each in self._their_index
            if (before is None or each < before)
            and (since is None or each.started >= since)
        )
        return sorted(found, reverse=True)[:count]

    def _keys(self, base_id: str) -> list[str]:
        (pieces,) = self._run([("HVALS", _key("keys", base_id))])
        names = {name for text in _unpacked(pieces) for name in text.split()}
        return [f"osprofiler:{base_id}_{name}" for name in sorted(names)]

    def _values(self, keys: Iterable[str]) -> list[bytes]:
        """The strings under keys, as far as they are there."""
        values: list[bytes] = []
        for chunk in _chunks(keys, _READ_KEYS):
            (found,) = self._run([("MGET", *chunk)])
            values += [each for each in found if each is not None]
        return values

    # What osprofiler's own drivers wrote

    def list_traces(self, query: TraceQuery) -> list[TraceSummary]:
        if not self.include_osprofiler:
            return super().list_traces(query)
        # In a copy, for what was scanned is of this list only.
        view = copy.copy(self)
        view.include_osprofiler = False
        view._theirs = {
            base_id: PartialSummary.of(notifications)
            for base_id, keys in self._their_keys("").items()
            if (notifications := self._their_notifications(base_id, keys))
        }
        # Under every term: those that do not match are left out anyway.
        view._their_index = [
            Position(min(each.started for each in pieces.values()), base_id)
            for base_id, pieces in view.partials(view._theirs).items()
        ]
        return view.list_traces(query)

    def left_by_osprofiler(self) -> Iterator[tuple[str, list[object]]]:
        # In a file, for there may be more keys than fit into memory.
        with contextlib.closing(sqlite3.connect("")) as file:
            file.execute("CREATE TABLE keys (base_id, name UNIQUE)")
            file.executemany(
                "INSERT OR IGNORE INTO keys VALUES (?, ?)",
                self._scan("", _may_be_theirs),
            )
            rows = file.execute("SELECT * FROM keys ORDER BY base_id")
            for base_id, keys in itertools.groupby(rows, lambda row: row[0]):
                values = self._their_values({key for _, key in keys})
                yield base_id, [*map(_decoded, values)]

    def _scan(
        self, base_id: str, match: Callable[[str], re.Match[str] | None]
    ) -> Iterator[tuple[str, str]]:
        """Look for keys with ids that begin like this: whole id, and key."""
        literally = re.sub(r"([*?\[\]\\])", r"\\\1", base_id)
        with self._errors():
            keys = self._client.scan_iter(f"osprofiler*:{literally}*", 1000)
            for key in keys:
                text = key.decode("ascii", "replace")
                if found := match(text):
                    yield found[1] or found[2] or "", text

    def _their_keys(self, base_id: str) -> dict[str, set[str]]:
        """Scan for what ids begin like this; the result is by base_id."""
        found: dict[str, set[str]] = {}
        for each, key in self._scan(base_id, _is_theirs):
            found.setdefault(each, set()).add(key)
        return found

    def _their_values(self, keys: set[str]) -> list[bytes]:
        lists = {key for key in keys if key.startswith("osprofiler_opt:")}
        values = self._values(keys - lists)
        for key in lists:
            for at in itertools.count(0, _READ_KEYS):
                end = str(at + _READ_KEYS - 1)
                (found,) = self._run([("LRANGE", key, str(at), end)])
                values += found
                if len(found) < _READ_KEYS:
                    break
        return values

    def _their_notifications(
        self, base_id: str, keys: Iterable[str]
    ) -> list[Notification]:
        # Encoded as ours, for ours may be among them.
        return [
            Notification.from_payload(each.payload)
            for each in _notifications(self._their_values({*keys}), base_id)
        ]

    # The rest of the interface

    def delete(
        self, base_id: str, partials: Collection[PartialSummary]
    ) -> None:
        members = {
            _member(Position(each.started, base_id)) for each in partials
        }
        # The index last: what is left of it, if this is cut short, is skipped
        # by readers.
        self._run(
            [
                *(("UNLINK", key) for key in self._keys(base_id)),
                ("UNLINK", _key("keys", base_id), _key("summary", base_id)),
                *(
                    ("ZREM", _key("index", _digest(term)), *members)
                    for term in index_terms(partials)
                ),
            ]
        )

    def check(self) -> list[str]:
        memory, persistence, *_ = self._run(
            [
                ("INFO", "memory"),
                ("INFO", "persistence"),
                # These would need what writing needs, and change nothing.
                ("SET", "osprofiler:", "", "XX"),
                ("ZADD", _key("index", ""), "XX", "0", ""),
            ],
            self._replicas_to_wait_for(),
        )
        warnings = []
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            warnings.append(
                f"{self} deletes traces when its memory is full: set"
                f" maxmemory-policy to noeviction, it is {policy}"
            )
        if not persistence.get("aof_enabled"):
            warnings.append(
                f"{self} keeps no append-only file: when it ends, what came"
                " after its last snapshot is lost, or all where it makes none:"
                " set appendonly to yes"
            )
        return warnings + self.check_clock(self._clock)

    def _clock(self) -> float:
        # Not TIME, for which the user would need one more right.
        (server,) = self._run([("INFO", "server")])
        # Not told by servers before Redis 6.
        return int(server.get("server_time_usec", time.time() * 1e6)) / 1e6

    def close(self) -> None:
        for client in (self._client, self._patient_client):
            client.connection_pool.disconnect()

    def __str__(self) -> str:
        return self._masked

    # The client

    def _run(
        self, commands: Iterable[Command], replicas: int = 0
    ) -> list[Any]:
        """Run commands, in as many round trips as it takes.

        :param replicas: how many must confirm what was written
        :returns: the replies; an empty one of a key that holds another type
        """
        options = self._patient_client.connection_pool.connection_kwargs
        # To answer before the client gives up; 0 would be for ever.
        wait = str(round(options["socket_timeout"] * 500) or 1)
        replies: list[Any] = []
        for trip, size in _trips(commands):
            if replicas:
                # In the connection that wrote, for it is about that.
                trip.append(("WAIT", str(replicas), wait))
            client = self._client
            if replicas or size > _TRIP_BYTES:
                client = self._patient_client
            with self._errors():
                pipeline: Any = client.pipeline(transaction=False)
                for command in trip:
                    pipeline.execute_command(*command)
                answers = pipeline.execute(raise_on_error=False)
                for at, answer in enumerate(answers):
                    if isinstance(answer, Exception):
                        if not (_is_foreign(answer) and trip[at][0] in _READ):
                            raise answer
                        answers[at] = []
            if replicas and answers.pop() < replicas:
                self._replicas_until = 0.0
                raise exceptions.StorageUnavailable(
                    f"{self}: fewer than {replicas} replica(s) confirmed the"
                    " write: see wait_replicas"
                )
            replies += answers
        return replies

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Make the client's errors ours."""
        try:
            yield
        except redis.RedisError as error:
            what = f"{self}: {line(error)}"
            for kinds, advice in _ADVICE:
                if isinstance(error, kinds):
                    what = f"{what}: {advice}"
                    raise exceptions.StorageMisconfigured(what) from error
            if isinstance(error, _PASSING) or _is_passing(line(error)):
                raise exceptions.StorageUnavailable(what) from error
            if _is_foreign(error):
                what += ": delete what is not profiler_bridge's in its keys"
            raise exceptions.StorageMisconfigured(what) from error


_ADVICE: Sequence[tuple[tuple[type[Exception], ...], str]] = (
    (
        (redis.AuthenticationError,),
        "check user and password in the connection string",
    ),
    (
        (NoPermissionError,),
        "the user needs the keys osprofiler:* and profiler_bridge:*, and the"
        " commands in @read, @write and @connection, and INFO",
    ),
    (
        (MovedError, AskError, ClusterCrossSlotError),
        "this is a Redis Cluster, which is not supported",
    ),
)
# What passes by itself; some is known by its code only.
_PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    ClusterDownError,
)
_is_passing = re.compile("BUSY|MISCONF|NOREPLICAS|UNBLOCKED").match
# Whose keys others may have put something else in, without harm to the rest.
_READ = frozenset({"HGETALL", "HVALS", "LRANGE"})


def line(error: BaseException) -> str:
    """A client's error in one line, to go on after."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _is_foreign(error: Exception) -> bool:
    return str(error).startswith("WRONGTYPE")


def _trips(commands: Iterable[Command]) -> Iterator[tuple[list[Command], int]]:
    """Commands to be sent at once, and their size in bytes.

    :returns: what is too large has only one command
    """
    trip: list[Command] = []
    size = 0
    for command in commands:
        more = sum(map(len, command))
        if trip and (len(trip) == _TRIP_COMMANDS or size + more > _TRIP_BYTES):
            yield trip, size
            trip, size = [], 0
        trip.append(command)
        size += more
    if trip:
        yield trip, size


def _msets(values: Sequence[tuple[str, str]]) -> Iterator[Command]:
    """Set values, some with one command: a reply costs as much as a value."""
    for at in range(0, len(values), _MSET_VALUES):
        yield "MSET", *itertools.chain(*values[at : at + _MSET_VALUES])


def _chunks(values: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = list(values)
    for at in range(0, len(rest), size):
        yield rest[at : at + size]


def _notifications(
    values: Iterable[bytes], base_id: str
) -> Iterator[Notification]:
    """The notifications of a trace that are among values."""
    for value in values:
        with contextlib.suppress(
            UnicodeDecodeError, exceptions.InvalidNotification
        ):
            each = Notification.from_text(_text(value))
            if each.base_id == base_id:
                yield each


def _decoded(value: bytes) -> object:
    try:
        found: object = json.loads(value)
    except (ValueError, RecursionError):
        return value.decode("utf-8", "replace")
    return found


def _unpacked(values: Iterable[bytes]) -> Iterator[str]:
    for value in values:
        with contextlib.suppress(zlib.error, UnicodeDecodeError):
            yield _text(zlib.decompress(value))


def _partials(
    values: Mapping[bytes, bytes],
) -> Iterator[tuple[bytes, PartialSummary]]:
    for digest, value in values.items():
        for text in _unpacked([value]):
            # What decoding somebody else's JSON raises.
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                partial = PartialSummary.from_text(text)
                yield bytes.fromhex(_text(digest)), partial


def _key(kind: str, name: str) -> str:
    return f"profiler_bridge:{kind}:{name}"


def _member(position: Position) -> str:
    """A position as text that sorts as positions do: 64 bits, signed."""
    return f"{position.started + 2**63:016x}{position.base_id}"


def _position(member: str) -> Position:
    return Position(int(member[:16], 16) - 2**63, member[16:])


def _digest(text: str) -> str:
    encoded = text.encode("utf-8", "surrogatepass")
    return blake2b(encoded, digest_size=8).hexdigest()


def _text(value: bytes) -> str:
    return value.decode("ascii")


def _masked(url: str) -> str:
    url = re.sub(r"(://[^:/?#]*):[^/?#]*@", r"\1:***@", url)
    return re.sub("(password=)[^&#]*", r"\1***", url)
