# SPDX-License-Identifier: Apache-2.0

"""Durable storage and reports for OSProfiler notifications."""
