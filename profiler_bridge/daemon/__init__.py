# SPDX-License-Identifier: Apache-2.0

"""The daemon: from the bus to the storage, and what goes on beside it."""
