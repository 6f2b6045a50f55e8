# SPDX-License-Identifier: Apache-2.0

"""How Sphinx builds this documentation: ``tox -e docs``."""

from importlib import metadata

project = "profiler_bridge"
project_copyright = "profiler_bridge contributors"
version = release = metadata.version(project)

extensions = [
    "cliff.sphinxext",
    "openstackdocstheme",
    "oslo_config.sphinxext",
    "reno.sphinxext",
    "sphinx.ext.autodoc",
]
exclude_patterns = ["admin/chaos-table.rst"]  # included by another page
autodoc_member_order = "bysource"
highlight_language = "none"

html_theme = "openstackdocs"
openstackdocs_auto_name = False
openstackdocs_auto_version = False

# One for each command; the Debian package has them.
man_pages = [
    (f"cli/{name}", name, description, [], section)
    for name, section, description in (
        ("profiler-bridge", 8, "store OSProfiler notifications from the bus"),
        ("profiler-bridge-api", 8, "show OSProfiler traces over HTTP"),
        ("profiler-bridge-demo", 1, "store and show two traces, to try it"),
        (
            "profiler-bridge-instrument",
            1,
            "run a program that sends to the bus with bridge://",
        ),
        ("profiler-bridge-manage", 8, "manage what profiler-bridge keeps"),
        ("profiler-bridge-report", 1, "report on OSProfiler traces"),
    )
]
