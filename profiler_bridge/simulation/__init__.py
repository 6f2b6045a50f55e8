# SPDX-License-Identifier: Apache-2.0

"""Traces as a cloud's services would send them, for whoever has none yet."""
