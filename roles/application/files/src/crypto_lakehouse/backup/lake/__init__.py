# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and raw objects of the lakehouse: their state at one moment, and its restore.

A table is defined by its metadata document. `pins` reads the documents, `files` lists every file of a document,
`tables_restore` and `raw_restore` restore them, `plan` shows the changes of a restore in advance.
"""
