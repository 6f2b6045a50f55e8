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
