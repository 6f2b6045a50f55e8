# SPDX-License-Identifier: Apache-2.0

"""What profiler-bridge-instrument puts first on a program's PYTHONPATH.

No part of the package for those who run it: the folder is on the path.
"""
