# SPDX-License-Identifier: Apache-2.0

"""Runs at the start of every Python under profiler-bridge-instrument.

It has to be quick, to disturb nothing, and to run on whatever Python the
program has. So it imports only what every Python has imported by then.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _Finder:
    """Registers bridge:// as soon as osprofiler's drivers are there."""

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> "ModuleSpec | None":
        if name != "osprofiler.drivers":
            return None
        from importlib import import_module
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: "ModuleType") -> None:
            execute(module)
            try:
                import_module("profiler_bridge.sender.driver")
            except Exception as error:  # noqa: BLE001 - the program goes on
                print(
                    "profiler-bridge-instrument: bridge:// is not there for"
                    f" {sys.executable}: {error}",
                    file=sys.stderr,
                )

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _run_the_one_behind() -> None:
    """Run the sitecustomize.py that there would be without this one."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [folder for folder in sys.path if folder != here]
    own = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", own)


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Finder())
    _run_the_one_behind()
