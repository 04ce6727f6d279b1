# SPDX-License-Identifier: GPL-3.0-or-later
"""The Prefect flows and their deployment."""
