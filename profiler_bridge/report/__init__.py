# SPDX-License-Identifier: Apache-2.0

"""What a person or a tool reads of a trace: one module a format."""
