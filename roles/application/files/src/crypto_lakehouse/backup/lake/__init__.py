# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and raw objects of the lakehouse: their state at one moment, and its return.

A table is its metadata document. `pins` reads the documents, `files` names every file that a document refers to,
`tables_restore` and `raw_restore` write them back, `plan` tells beforehand what a restore would write.
"""
