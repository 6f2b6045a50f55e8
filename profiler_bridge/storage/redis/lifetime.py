# SPDX-License-Identifier: Apache-2.0

"""How long traces live where there is a retention.

With each write the summary and the marks of a trace, and the entries of its
terms, live on for the retention; notifications and their names up to a quarter
longer. That is what is paid in memory for not having to lengthen the lives of
all notifications with each write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from profiler_bridge.storage.places import missing_marks, place_of
from profiler_bridge.storage.redis import layout, reading
from profiler_bridge.storage.redis.client import RedisClient
from profiler_bridge.storage.redis.protocol import Command


def expire(key: str, seconds: int) -> Command:
    return "EXPIRE", key, str(seconds)


class Lifetime:
    """Of everything that is written.

    :param retention: seconds, at least one
    """

    def __init__(self, client: RedisClient, retention: int) -> None:
        self._client = client
        #: Seconds.
        self.of_traces = retention
        self.of_strings = retention + max(1, retention // 4)

    def lengthen(self, lives: Mapping[str, int]) -> None:
        """See to it that nothing of a trace expires before its summary.

        :param lives: by trace, how many seconds its notifications live on;
            that is what the key of their names does; negative where this is
            new, and does not expire yet
        """
        commands: list[Command] = []
        for base_id, seconds in lives.items():
            if self.of_traces < seconds <= self.of_strings:
                continue
            if 0 <= seconds <= self.of_traces:
                commands += (
                    expire(key, self.of_strings)
                    for key in reading.string_keys(self._client, base_id)
                )
            commands.append(expire(layout.names_key(base_id), self.of_strings))
        self._client.run(commands, confirmed=True)

    def mark_again(self, base_ids: Sequence[str]) -> None:
        """Have the marks of traces say what their summaries say.

        The two expire at nearly the same moment. Marks that are left from a
        trace that has expired would put what came after it where that began;
        and without marks nothing is known of what came before.
        """
        self._client.run(
            [("UNLINK", layout.marks_key(base_id)) for base_id in base_ids]
        )
        # Only now, so that what others have marked before is marked again.
        traces = reading.partials(self._client, base_ids)
        commands: list[Command] = []
        for base_id, pieces in traces.items():
            marks = missing_marks(base_id, None, place_of(pieces.values()))
            key = layout.marks_key(base_id)
            commands += (
                ("ZADD", key, "0", layout.to_marks_member(mark))
                for mark in marks
            )
            commands.append(expire(key, self.of_traces))
        self._client.run(commands, confirmed=True)
