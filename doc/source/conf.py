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
