# SPDX-License-Identifier: Apache-2.0

"""From templates to pages: any text is text, and can be read.

The templates have an environment of their own, so that nothing of a trace is
markup, a control character or a writing direction, whoever writes a template.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flask
import jinja2
from markupsafe import Markup

from profiler_bridge.notification import format_timestamp
from profiler_bridge.report.text import duration, shortened
from profiler_bridge.text import printable

#: No text on a page is longer.
LONGEST = 2000


def page(template: str, status: int = 200, **values: Any) -> flask.Response:
    """A page as the answer to a request."""
    text = _environment.get_template(template).render(values)
    return flask.Response(text, status, mimetype="text/html")


def streamed(template: str, **values: Any) -> flask.Response:
    """A page that is made while it is sent: it may be long."""
    stream = _environment.get_template(template).stream(values)
    # Each piece would be a chunk of its own.
    stream.enable_buffering(500)
    return flask.Response(
        flask.stream_with_context(stream),
        mimetype="text/html",
    )


def link(
    endpoint: str, args: Any = (), anchor: str | None = None, **values: Any
) -> str:
    """A URL of the service; values that are empty are left out.

    :param args: a mapping of more values, as names are that Python lacks
    """
    given = {
        key: _encodable(value)
        for key, value in {**dict(args), **values}.items()
        if value
    }
    return flask.url_for(f"pages.{endpoint}", _anchor=anchor, **given)


def text(value: object, most: int = LONGEST) -> str:
    """Any text, cut and harmless to who reads it."""
    return printable(shortened(str(value), most))


def moment(microseconds: int) -> Markup:
    """A moment in UTC, which the script shows in the browser's zone."""
    iso = format_timestamp(microseconds)
    shown = iso[:19].replace("T", " ")
    # Of digits only, and there are many on a page.
    return Markup(f'<time datetime="{iso}Z">{shown}</time>')  # noqa: S704


def label(text: str, most: int) -> str:
    """A text that has so many characters at most when it is shown."""
    shown = printable(text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 1]}\u2026"


def is_open() -> bool:
    """Whether anybody may read, perhaps from another host."""
    return bool(flask.current_app.config["IS_OPEN"])


def _encodable(value: Any) -> Any:
    # Half a surrogate pair cannot be in a URL.
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Iterable):
        return [_encodable(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    """What a template puts into a page, before it is escaped."""
    # Markup, which is a string too, was made here and not by a trace.
    return text(value) if type(value) is str else value


_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("profiler_bridge.api.pages"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_plain,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals.update(is_open=is_open, link=link, moment=moment)
_environment.filters.update(duration=duration, cut=text, label=label)
_environment.filters["count"] = lambda number: f"{number:,}"
