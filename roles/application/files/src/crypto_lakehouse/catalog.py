# SPDX-License-Identifier: GPL-3.0-or-later
"""Access to the Iceberg catalog of a tier: a REST catalog signed with SigV4, or AWS Glue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from crypto_lakehouse.settings import Settings, Tier
from crypto_lakehouse.tables import NAMESPACE_PREFIX

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

SIGNING_NAME: Final = "s3tables"
"""Service name in the signature: SeaweedFS and Amazon S3 Tables both expect it."""


def catalog_properties(settings: Settings, tier: Tier) -> dict[str, str]:
    """Return the pyiceberg properties of the tier's catalog.

    Keys are omitted when they were not given, so that the default credential chain is used.

    Raises:
        SettingsError: when a setting that the catalog type needs is missing.
    """
    region = settings.s3_region
    properties = {
        "type": settings.catalog_type,
        "warehouse": settings.warehouse(tier),
        "client.region": region,
        "s3.region": region,
    }
    if settings.catalog_namespace_prefix:
        properties[NAMESPACE_PREFIX] = settings.catalog_namespace_prefix
    if settings.s3_endpoint:
        properties |= {"s3.endpoint": settings.s3_endpoint, "s3.force-virtual-addressing": "false"}
    access_key, secret_key = settings.secret("s3_access_key"), settings.secret("s3_secret_key")
    if access_key and secret_key:
        properties |= {
            "client.access-key-id": access_key,
            "client.secret-access-key": secret_key,
            "s3.access-key-id": access_key,
            "s3.secret-access-key": secret_key,
        }
    if settings.catalog_type == "rest":
        properties |= {
            "uri": settings.require("catalog_uri"),
            "rest.sigv4-enabled": "true",
            "rest.signing-name": SIGNING_NAME,
            "rest.signing-region": region,
        }
    elif settings.catalog_uri:
        properties["glue.endpoint"] = settings.catalog_uri
    return properties


def open_catalog(settings: Settings, tier: Tier, **extra: str) -> Catalog:
    """Open the Iceberg catalog of the tier's tables (namespace: `Settings.namespace`).

    `extra` are further pyiceberg properties, which take precedence over those from the settings.

    Raises:
        SettingsError: when a setting that the catalog type needs is missing.
        pyiceberg.exceptions.RESTError: when the catalog rejects the request or cannot be reached.
    """
    from pyiceberg.catalog import load_catalog

    return load_catalog(tier, **{**catalog_properties(settings, tier), **extra})
