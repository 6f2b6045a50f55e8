# SPDX-License-Identifier: Apache-2.0

"""Answers about a trace that need not be given again."""

from __future__ import annotations

import hashlib
from importlib import metadata

import flask

from profiler_bridge.api.app import storage

# To find it out takes half a millisecond, and a file.
_RELEASE = metadata.version("profiler_bridge")


def unchanged(base_id: str) -> flask.Response | None:
    """The answer to who has this trace as it is; to be asked first.

    Otherwise the answer that is given instead gets an ETag, if it is about
    what is stored: a trace that nothing comes to keeps it, whatever is purged
    or written beside it. It tells pieces of the trace and releases of the
    bridge apart. What else an answer depends on has to be in its URL.

    :param base_id: as the storage has it
    :returns: 304, or None where an answer has to be made
    :raises StorageError: the storage cannot be read
    """
    plugin = storage().plugin
    pieces = plugin.partials([base_id]).get(base_id)
    if not pieces:
        return None
    gone = plugin.count_gone([base_id], exactly=False).get(base_id, 0)
    state = f"{_RELEASE} {gone} {sorted(pieces)}"
    tag = hashlib.sha256(state.encode()).hexdigest()[:32]

    def add_tag(response: flask.Response) -> flask.Response:
        if response.status_code in (200, 304):
            # Weak: it is the same one in gzip.
            response.set_etag(tag, weak=True)
        return response

    flask.after_this_request(add_tag)
    if flask.request.if_none_match.contains_weak(tag):
        return flask.Response(status=304)
    return None
