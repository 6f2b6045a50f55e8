# SPDX-License-Identifier: Apache-2.0

"""From a program to the bus."""

import _thread
import types


def threads_are_greenlets() -> bool:
    """Whether eventlet has replaced the library's threads by its own."""
    return not isinstance(_thread.start_new_thread, types.BuiltinFunctionType)
