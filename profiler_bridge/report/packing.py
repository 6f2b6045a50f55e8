# SPDX-License-Identifier: Apache-2.0

"""The texts of a trace for a page, each once however often it occurs."""

from __future__ import annotations

import json
import re

from profiler_bridge.notification import Notification, format_timestamp
from profiler_bridge.report.text import shortened
from profiler_bridge.trace import Span

# A page's strings may take so many bytes more than its trace.
_MORE_ROOM = 100_000
# A string of so many characters is never cut.
_SHORT = 30
# What a place and its comma take, at most, in bytes.
_ARGUMENT = 7

# A notification's arguments are places of strings in the table, or one of
# these: its own timestamp, its span's trace_id, the parent's trace_id.
_TIMESTAMP, _SPAN, _PARENT = -1, -2, -3

# Shown in place of a notification for which there is no room.
_LEFT_OUT = '{"info":{"payload":{"left out":"too large for this page"}}}'

# The tokens of JSON in which notifications that are alike differ. A string
# with a colon behind it is a key.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"(:?)|-?[0-9][0-9.eE+-]*+')

#: JSON in ASCII, as short as it gets.
encode = json.JSONEncoder(separators=(",", ":")).encode


class Packing:
    """Strings and notifications, each once however often it occurs.

    :param room: about how many bytes strings may take; further ones are cut,
        so that no page is many times as large as its trace
    :param strings: the place of each string; that of the empty one is 0
    :param notifications: the place of each notification. It is the place of
        its template, which is its JSON without strings and numbers, and then
        the places of these. Where they are so many that they take more room,
        the template is its whole JSON.
    """

    def __init__(self, room: int) -> None:
        self._room = room + _MORE_ROOM
        self.strings = {"": 0}
        self.notifications: dict[tuple[int, ...], int] = {}
        self._literals: dict[str, int] = {}

    def place(self, text: str, otherwise: str = "") -> int:
        """Add a string, unless it is known; return its place.

        :param otherwise: what is added where there is no room for it; its
            beginning where that is empty
        """
        place = self.strings.get(text)
        if place is None:
            if len(text) > _SHORT and not self._has_room(text):
                text = otherwise or shortened(text, _SHORT)
            place = self.strings.setdefault(text, len(self.strings))
        return place

    def _has_room(self, text: str) -> bool:
        size = len(encode(text))
        size += sum(map(text.count, "<>&")) * len(r"u003c")
        if size > self._room:
            return False
        self._room -= size
        return True

    def notification(
        self, notification: Notification | None, parent: Span | None
    ) -> int:
        """Add a notification, unless it is known; return its place.

        :returns: -1 for no notification
        """
        if notification is None:
            return -1
        own = {
            f'"{format_timestamp(notification.timestamp)}"': _TIMESTAMP,
            f'"{notification.trace_id}"': _SPAN,
        }
        if parent is not None:
            own[f'"{parent.trace_id}"'] = _PARENT
        literals: list[str] = []

        def take(token: re.Match[str]) -> str:
            literal = token[0]
            if token[1]:
                return literal
            literals.append(literal)
            return "@" if literal[0] == '"' else "#"

        template = _TOKEN.sub(take, notification.text)
        if len(literals) * _ARGUMENT > len(notification.text):
            template, literals = notification.text, []
        place = self.place(template, _LEFT_OUT)
        if place == self.strings.get(_LEFT_OUT):
            literals = []
        arguments = (
            own[literal] if literal in own else self._literal(literal)
            for literal in literals
        )
        return self.notifications.setdefault(
            (place, *arguments), len(self.notifications)
        )

    def _literal(self, literal: str) -> int:
        place = self._literals.get(literal)
        if place is None:
            text = json.loads(literal) if literal[0] == '"' else literal
            place = self._literals[literal] = self.place(text)
        return place
