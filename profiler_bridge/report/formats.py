# SPDX-License-Identifier: Apache-2.0

"""All formats, by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from profiler_bridge.report import (
    chrome,
    dot,
    html,
    json,
    otlp,
    speedscope,
    tree,
    zipkin,
)
from profiler_bridge.trace import Trace

#: What makes the text of a trace in each format; the text comes in pieces.
FORMATS: dict[str, Callable[[Trace], Iterable[str]]] = {
    "chrome": chrome.render,
    "dot": dot.render,
    "html": html.render,
    "json": json.render,
    "otlp": otlp.render,
    "speedscope": speedscope.render,
    "tree": tree.render,
    "zipkin": zipkin.render,
}
