# SPDX-License-Identifier: Apache-2.0

"""What pages that are one file have in common: they load and trust nothing.

Style and script stand in the page. Its policy allows these, known by their
hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import time
from functools import cache
from html import escape
from importlib import metadata, resources


def policy(style: str, script: str = "") -> str:
    """What a browser may do for a page.

    :param style: the page's, likewise the script, which it may do without
    """
    rules = ["default-src 'none'"]
    if script:
        rules.append(f"script-src {_source(script)}")
    rules.append(f"style-src {_source(style)}")
    rules += ["base-uri 'none'", "form-action 'none'"]
    if script:
        rules.append("require-trusted-types-for 'script'")
        rules.append("trusted-types 'none'")
    return "; ".join(rules)


def head(title: str, style: str, script: str = "") -> str:
    """All above a page's body; any text is a title."""
    return assets("head.html").format(
        policy=policy(style, script), title=text(title), style=style
    )


def made() -> str:
    """By what a page was made, and when."""
    version = metadata.version("profiler_bridge")
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    return f"Made by profiler_bridge {version} at {now} UTC"


def text(text: str) -> str:
    """Any text as HTML that is nothing but text, in ASCII."""
    return escape(text).encode("ascii", "xmlcharrefreplace").decode("ascii")


@cache
def assets(*names: str) -> str:
    """Files of page/, joined."""
    page = resources.files(__package__).joinpath("page")
    return "".join(page.joinpath(name).read_text("ascii") for name in names)


@cache
def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
