# SPDX-License-Identifier: GPL-3.0-or-later
"""All settings of the application, read once from the environment of the process."""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX: Final = "LAKEHOUSE_"

Tier = Literal["bronze", "silver", "gold"]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+\S*$", strip_whitespace=True)]
Warehouse = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class SettingsError(ValueError):
    """A setting is missing or invalid; the message names environment variables and never a value."""


def _pairs(value: object) -> object:
    # Settings are hashed, so they cannot contain a mapping.
    if isinstance(value, tuple):
        return value
    try:
        decoded = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("expected a JSON object") from None
    if not isinstance(decoded, dict):
        raise ValueError("expected a JSON object")
    return tuple(sorted(decoded.items()))


class EnvironmentSettings(BaseSettings):
    """Settings of one process, from environment variables that begin with the `env_prefix` of the model."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    @classmethod
    def from_environment(cls) -> Self:
        """Read the process environment.

        Raises:
            SettingsError: naming every invalid variable, without its value.
        """
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError(cls._describe(error)) from None

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the environment variable of the setting `field`."""
        return f"{cls.model_config.get('env_prefix', '')}{field.upper()}"

    @classmethod
    def _describe(cls, error: ValidationError) -> str:
        problems = []
        for item in error.errors(include_input=False, include_url=False):
            place = str(item["loc"][0]) if item["loc"] else "environment"
            variable = cls.variable(place) if place in cls.model_fields else place
            problems.append(f"{variable}: {item['msg']}")
        return "; ".join(problems)

    def require(self, name: str) -> str:
        """Return the setting `name` (a secret as its plain value).

        Raises:
            SettingsError: when it was not given; the message names its environment variable.
        """
        value = getattr(self, name)
        if value is None:
            raise SettingsError(f"{self.variable(name)} is not set; this command needs it")
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


class Settings(EnvironmentSettings):
    """Settings of one process: each service's environment contains only the values that the service needs.

    Only names with safe defaults have values in every process. Parts that need another setting read it with `require`,
    so that one model serves the API, the flows, bootstrap and verify. Secrets and named tokens are not validated here:
    the deployment validates them before its first change, and a rejection here would end a deployment halfway.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, validate_by_name=True)

    environment: Literal["development", "staging", "production"] = "development"

    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=1, le=65535)
    api_token: SecretStr | None = None
    api_tokens: Annotated[tuple[tuple[str, float], ...], NoDecode, BeforeValidator(_pairs)] = ()
    api_url: HttpUrl | None = None
    api_max_body_bytes: int = Field(default=131_072, ge=1024)

    database_url: SecretStr | None = None
    database_admin_url: SecretStr | None = None
    database_lakehouse_password: SecretStr | None = None
    database_orchestrator_password: SecretStr | None = None
    database_backup_password: SecretStr | None = None

    s3_endpoint: HttpUrl | None = None
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None

    store_master: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.-]+:\d+(?:\.\d+)?$")
    """Address of SeaweedFS's master, `HOST:PORT.GRPC_PORT`, where its shell is available."""

    catalog_type: Literal["rest", "glue"] = "rest"
    catalog_uri: HttpUrl | None = None
    catalog_namespace_prefix: str = Field(default="", pattern=r"^[a-z0-9_]*$")

    bronze_bucket: str | None = None
    silver_bucket: str | None = None
    gold_bucket: str | None = None
    backups_bucket: str | None = None
    backup_state_bucket: str | None = None
    """Bucket of locks and requests of backup runs; None without backups."""
    backup_retention_days: int = Field(default=7, ge=1, le=3650)
    bronze_warehouse: Warehouse | None = None
    silver_warehouse: Warehouse | None = None
    gold_warehouse: Warehouse | None = None

    prefect_api_url: HttpUrl | None = Field(default=None, validation_alias=AliasChoices("PREFECT_API_URL"))
    prefect_api_auth_string: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("PREFECT_API_AUTH_STRING")
    )

    prefect_server_api_auth_string: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("PREFECT_SERVER_API_AUTH_STRING")
    )

    orchestrator_pages: str | None = None
    """Folder of the pages that the orchestrator serves; None where they are on another machine."""

    database_folder: str | None = None
    """Data folder of the database, in which a restore may be incomplete; None where it is on another machine."""

    market_api_url: HttpUrl = "https://data-api.binance.vision"
    market_archive_url: HttpUrl = "https://data.binance.vision"

    prometheus_url: HttpUrl | None = None
    prometheus_password: SecretStr | None = None
    alertmanager_url: HttpUrl | None = None
    alertmanager_password: SecretStr | None = None

    query_max_rows: int = Field(default=10_000, ge=1, le=1_000_000)
    query_timeout_s: float = Field(default=20.0, gt=0, le=600)
    query_memory_mb: int = Field(default=256, ge=64, le=65_536)
    query_concurrency: int = Field(default=2, ge=1, le=64)
    query_max_result_bytes: int = Field(default=8_388_608, ge=1024)
    query_max_staleness_s: float = Field(default=1.0, ge=0, le=3_600)
    query_queue_timeout_s: float = Field(default=5.0, gt=0, le=600)
    query_resident_mb: int = Field(default=32, ge=0, le=4_096)
    query_result_cache_mb: int = Field(default=32, ge=0, le=4_096)

    worker_stop_timeout_s: float | None = Field(default=None, gt=0)

    certificate_files: str | None = None

    textfile_dir: str | None = None
    verification_port: int | None = Field(default=None, ge=1, le=65535)
    metrics_namespace: str | None = None

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the environment variable of the setting `field`; Prefect uses its own name."""
        return field.upper() if field.startswith("prefect_") else super().variable(field)

    def secret(self, name: str) -> str | None:
        """Return the plain value of the secret setting `name`, None when it was not given."""
        value: SecretStr | None = getattr(self, name)
        return None if value is None else value.get_secret_value()

    def bucket(self, tier: Tier) -> str:
        """Return the name of the tier's bucket for plain objects."""
        return self.require(f"{tier}_bucket")

    def namespace(self, tier: Tier) -> str:
        """Return the tier's namespace in the catalog; databases of Glue share an account with other environments."""
        return f"{self.catalog_namespace_prefix}{tier}"

    def warehouse(self, tier: Tier) -> str:
        """Return the tier's Iceberg warehouse, `s3://TABLE-BUCKET` or `s3://BUCKET/PREFIX`."""
        return self.require(f"{tier}_warehouse")


def variable_name(field: str) -> str:
    """Return the environment variable of the setting `field` of `Settings`."""
    return Settings.variable(field)
