# SPDX-License-Identifier: Apache-2.0

"""How values stand in a table: one way for people, another for programs."""

from __future__ import annotations

from cliff.columns import FormattableColumn

from profiler_bridge.report.text import duration, percent, shortened
from profiler_bridge.statement import shorten
from profiler_bridge.text import printable

# How many characters of a text are shown to people.
_WIDEST = 100


class Printable(FormattableColumn[str]):
    """Text from a trace: whole for a program.

    For a terminal it is made harmless, and cut: the longest text makes all
    rows of a table as wide.
    """

    def human_readable(self) -> str:
        return for_people(self._value)


class BaseID(FormattableColumn[str]):
    """A base_id. In a narrow table people see its beginning only."""

    #: So many characters find a trace.
    ENOUGH = 8

    def human_readable(self) -> str:
        return self._value


class Duration(FormattableColumn[float]):
    """Microseconds, to a program a whole number."""

    def human_readable(self) -> str:
        # Right-aligned, as cliff does with plain numbers only.
        return duration(self._value).rjust(7)

    def machine_readable(self) -> int:
        return round(self._value)


class Change(Duration):
    """Microseconds more or less."""

    def human_readable(self) -> str:
        sign = "+" if self._value > 0 else ""
        return f"{sign}{duration(self._value)}".rjust(8)


class Percent(FormattableColumn[float | None]):
    """A change by a share; None: there is no telling."""

    def human_readable(self) -> str:
        return "" if self._value is None else percent(self._value).rjust(7)

    def machine_readable(self) -> float | None:
        return None if self._value is None else round(self._value, 1)


class Share(FormattableColumn[float]):
    """A part of a whole, 0 to 1; in percent."""

    def human_readable(self) -> str:
        return f"{self._value:.1%}".rjust(6)

    def machine_readable(self) -> float:
        return round(100 * self._value, 2)


class Statement(Printable):
    """SQL, of which people see from where rather than what it selects."""

    def human_readable(self) -> str:
        return for_people(shorten(self._value, 0))


def for_people(text: str) -> str:
    """A text that can do a terminal no harm, not too long."""
    return printable(shortened(text, _WIDEST))
