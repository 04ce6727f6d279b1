# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup of the lakehouse at one consistent moment, its verification, and its restore.

A backup set is a folder `sets/ID/` at the destination whose `manifest.json` is written last; a set without one does
not exist. Content that sets share (data files, raw objects, WAL) lies below `objects/` and `wal/`, is created once and
never overwritten. `model` describes the documents, `destination` the two kinds of place that a set can lie in.
"""
