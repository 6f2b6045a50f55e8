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

"""What a person or a tool reads of a trace: one module a format."""

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

# Each takes a trace and gives its text in pieces.
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
