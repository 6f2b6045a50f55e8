# SPDX-License-Identifier: Apache-2.0

"""Whether all that stands in the configuration files is an option."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from oslo_config import cfg

from profiler_bridge import storage as storages
from profiler_bridge.preflight.findings import Finding, Result, finding
from profiler_bridge.storage.retention import SECTION
from profiler_bridge.storage.traces import Storage

#: Where the options stand that a configuration file may have, as entry points.
NAMESPACES = frozenset(
    {
        "profiler_bridge",
        "profiler_bridge.storage.redis",
        "oslo.log",
        "oslo.messaging",
        "oslo.middleware.basic_auth",
        "oslo.middleware.cors",
        "oslo.middleware.healthcheck",
        "oslo.middleware.http_proxy_to_wsgi",
        "keystonemiddleware.auth_token",
    }
)
# Which options it has is for keystoneauth's plugins to say.
_KEYSTONE = "keystone_authtoken"


def check_configuration(
    conf: cfg.ConfigOpts, stores: Sequence[Storage]
) -> Finding:
    """Find names that no option has: they are without effect.

    :param conf: whose files are read
    :param stores: whose options the files may have
    """
    files = [
        *conf.config_file,
        *(
            str(path)
            for folder in conf.config_dir
            for path in sorted(Path(folder).glob("*.conf"))
        ),
    ]
    if not files:
        return finding(
            "configuration",
            Result.WARNING,
            "there is no configuration file: give --config-file",
        )
    known = _known_options(stores)
    unknown = []
    for path in files:
        sections: dict[str, dict[str, Any]] = {}
        cfg.ConfigParser(path, sections).parse()
        for section, options in sections.items():
            if section.lower().startswith(SECTION):
                continue  # what is unknown there is an error
            if section.lower() == _KEYSTONE:
                continue
            for name in options:
                if (_normal(section), name) not in known:
                    unknown.append(f"{name} in [{section}] of {path}")
                    right = name.replace("-", "_")
                    if (_normal(section), right) in known:
                        unknown[-1] += f" (write {right})"
    if unknown:
        return finding(
            "configuration",
            Result.WARNING,
            f"no option, so without effect: {'; '.join(unknown)}",
        )
    return finding("configuration", Result.OK, f"read {', '.join(files)}")


def _known_options(stores: Sequence[Storage]) -> set[tuple[str, str]]:
    """Section and name of each option that may be in the files."""
    groups: list[tuple[object, Sequence[cfg.Opt]]] = [
        (storages.GROUP, storage.plugin.OPTS) for storage in stores
    ]
    for entry in metadata.entry_points(group="oslo.config.opts"):
        if entry.name in NAMESPACES:
            groups += entry.load()()
    known = set()
    for group, options in groups:
        section = str(group or "DEFAULT")
        for option in options:
            known.add((_normal(section), option.dest))
            for old in option.deprecated_opts:
                known.add(
                    (_normal(old.group or section), old.name or option.dest)
                )
    return known


def _normal(section: str) -> str:
    """As oslo.config compares sections: whatever the case, but for DEFAULT."""
    return section if section == "DEFAULT" else section.lower()
