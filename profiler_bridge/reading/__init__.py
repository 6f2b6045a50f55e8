# SPDX-License-Identifier: Apache-2.0

"""Stored traces for whoever reads through osprofiler's drivers."""
