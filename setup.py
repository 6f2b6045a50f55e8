# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import shutil

import setuptools

HERE = pathlib.Path(__file__).parent

# pbr reads the version from git or from an sdist's PKG-INFO. A source tree
# that has neither (a downloaded archive) still has to install. As git without
# a tag does, it precedes every release.
if not (HERE / "PKG-INFO").exists() and not (
    (HERE / ".git").exists() and shutil.which("git")
):
    os.environ.setdefault("PBR_VERSION", "0.0.1.dev0")

setuptools.setup(setup_requires=["pbr"], pbr=True)
