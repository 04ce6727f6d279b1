# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup of the database server as a whole: a base backup, the WAL that follows it, and recovery to a restore point.

`base` takes a base backup, `receiver` stores the WAL continuously, `pin` sets the restore point of a set, `archive`
finds the WAL between both, `recover` replays it into a new folder, and `swap` puts that folder in place. All of it
reaches the server through the replication protocol, as a role that may do nothing else.
"""
