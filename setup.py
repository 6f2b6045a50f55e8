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

import os
import pathlib
import shutil

import setuptools

HERE = pathlib.Path(__file__).parent

# pbr reads the version from git or from an sdist's PKG-INFO. A source tree
# that has neither (a downloaded archive) still has to install.
if not (HERE / "PKG-INFO").exists() and not (
    (HERE / ".git").exists() and shutil.which("git")
):
    os.environ.setdefault("PBR_VERSION", "0.1.0")

setuptools.setup(setup_requires=["pbr"], pbr=True)
