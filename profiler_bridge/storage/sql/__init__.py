# SPDX-License-Identifier: Apache-2.0

"""Storage in a database that SQLAlchemy supports."""
