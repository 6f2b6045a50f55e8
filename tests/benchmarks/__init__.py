# SPDX-License-Identifier: Apache-2.0

"""Benchmarks: ``python -m tests.benchmarks``; see there.

One file a topic. A topic measures every side of a comparison in the same run,
in turns, for on a machine that others use only ratios hold.
"""
