# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions of plans: every step names one of them, and the role has one task file for each."""

from __future__ import annotations

from collections.abc import Mapping

INITIALISE = "initialise"
START = "start"
JOIN_SERVER = "join_server"
JOIN_AGENT = "join_agent"
WAIT_VOTER = "wait_voter"
WAIT_READY = "wait_ready"
WAIT_LEARNERS = "wait_learners"
WAIT_SETTLED = "wait_settled"
WRITE_CONFIGURATION = "write_configuration"
WRITE_FILES = "write_files"
WRITE_MEMBERSHIP = "write_membership"
RESTART = "restart"
APPLY_REGISTRATION = "apply_registration"
CORDON = "cordon"
DRAIN = "drain"
UNCORDON = "uncordon"
INSTALL = "install"
STOP = "stop"
SNAPSHOT = "snapshot"
VERIFY_SNAPSHOT = "verify_snapshot"
UPLOAD_SNAPSHOT = "upload_snapshot"
DELETE_SNAPSHOT = "delete_snapshot"
STORE_ESCROW = "store_escrow"
REMOVE_MEMBER = "remove_member"
DELETE_NODE = "delete_node"
DELETE_PASSWORD = "delete_password"  # noqa: S105  names an action
MOVE_ASIDE = "move_aside"
COPY_ASIDE = "copy_aside"
RESET = "reset"
RESTORE = "restore"
PLACE_ESCROW = "place_escrow"
PLACE_SNAPSHOT = "place_snapshot"
WIPE_HOST = "wipe_host"

# The object of an action, its `value`, is in parentheses. An action that starts K3s writes the marker and the
# configuration before, and records the hash of the configuration after.
ACTIONS: Mapping[str, str] = {
    INITIALISE: "start the first server with `cluster-init`",
    START: "start the service with the data on its disk",
    JOIN_SERVER: "start a server that joins (address of the API)",
    JOIN_AGENT: "start an agent that joins (address of the API)",
    WAIT_VOTER: "wait until the node is Ready and EtcdIsVoter (release that it has to run)",
    WAIT_READY: "wait until the node is Ready (release that it has to run)",
    WAIT_LEARNERS: "wait until etcd has no learner",
    WAIT_SETTLED: "wait until the voters are unchanged for longer than 7 s",
    WRITE_CONFIGURATION: "write the configuration files",
    WRITE_FILES: "write files that differ from their description, without a restart",
    WRITE_MEMBERSHIP: "replace `cluster-init` by the address of another server, without a restart (address)",
    RESTART: "restart the service (release that it runs then)",
    APPLY_REGISTRATION: "write the configuration and apply labels and taints to the Node object (name)",
    CORDON: "cordon the node and annotate it",
    DRAIN: "evict the node's pods",
    UNCORDON: "uncordon the node that this collection cordoned",
    INSTALL: "install the verified binary (version)",
    STOP: "stop and disable the service",
    SNAPSHOT: "save a snapshot (name)",
    VERIFY_SNAPSHOT: "compare the hash of a snapshot (name)",
    UPLOAD_SNAPSHOT: "copy a verified snapshot and escrows to S3 (name)",
    DELETE_SNAPSHOT: "delete a snapshot of a host, or without a host that in S3 (name)",
    STORE_ESCROW: "keep token, CA and encryption configuration encrypted beside the snapshots",
    REMOVE_MEMBER: "remove the etcd member (name)",
    DELETE_NODE: "delete the Node object (name)",
    DELETE_PASSWORD: "delete the node-password Secret (name of the node)",
    MOVE_ASIDE: "rename the datastore, without deleting it; the marker then says that the host is joining",
    COPY_ASIDE: "copy the datastore of a stopped server",
    RESET: "reset etcd to this member",
    RESTORE: "reset etcd to a snapshot (name)",
    PLACE_ESCROW: "write token, CA and encryption configuration from the escrow of a snapshot (name)",
    PLACE_SNAPSHOT: "copy a snapshot from the controller (name)",
    WIPE_HOST: "stop K3s, end its containers, unmount, and delete its files on one file system",
}
