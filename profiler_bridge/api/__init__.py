# SPDX-License-Identifier: Apache-2.0

"""Reading traces over HTTP: the WSGI application. It never writes."""
