# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets and configuration in a backup: only the owner of a private key can read them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyrage
import pytest

from crypto_lakehouse.backup.configuration import check_recipients, seal, unpack, unseal
from crypto_lakehouse.backup.errors import IntegrityError, RefusedError

OWNER, SECOND, STRANGER = (pyrage.x25519.Identity.generate() for _number in range(3))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder with a secret store, configuration, and a link that leads out of it."""
    for name, content in {"secrets/store.json": "value-of-a-secret", "etc/api/env": "KEY=value"}.items():
        (tmp_path / "home" / name).parent.mkdir(parents=True)
        (tmp_path / "home" / name).write_text(content)
    (tmp_path / "outside").write_text("not of the lakehouse")
    (tmp_path / "home/etc/link").symlink_to(tmp_path / "outside")
    return tmp_path / "home"


@pytest.mark.parametrize("identity", [OWNER, SECOND])
def test_each_recipient_reads_all_files(home: Path, tmp_path: Path, identity: pyrage.x25519.Identity) -> None:
    document = seal(
        [home / "secrets", home / "etc", home / "missing"], home, [str(OWNER.to_public()), str(SECOND.to_public())]
    )
    assert b"value-of-a-secret" not in document
    written = unpack(unseal(document, f"{identity}\n"), tmp_path / "restored")
    content = {path.relative_to(tmp_path / "restored").as_posix(): path.read_text() for path in written}
    assert content == {"secrets/store.json": "value-of-a-secret", "etc/api/env": "KEY=value"}
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}


def test_another_identity_and_damage_are_told(home: Path) -> None:
    document = seal([home / "secrets"], home, [str(OWNER.to_public())])
    with pytest.raises(IntegrityError, match="not one of the recipients"):
        unseal(document, str(STRANGER))
    damaged = document[:-1] + bytes([document[-1] ^ 1])
    with pytest.raises(IntegrityError, match="damaged"):
        unseal(damaged, str(OWNER))
    with pytest.raises(RefusedError, match="not a private key") as refusal:
        unseal(document, "AGE-SECRET-KEY-1NOT-A-KEY")
    assert "NOT-A-KEY" not in str(refusal.value)


def test_a_private_key_among_the_recipients_is_refused_and_not_repeated() -> None:
    with pytest.raises(RefusedError, match="recipient 2 is a private key") as refusal:
        check_recipients([str(OWNER.to_public()), str(STRANGER)])
    assert str(STRANGER)[20:] not in str(refusal.value)
    with pytest.raises(RefusedError, match="recipient 1 is not a public key"):
        check_recipients(["age1short"])


@pytest.mark.parametrize("name", ["../escape", "/absolute", "folder/../../escape"])
def test_an_entry_that_leaves_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(IntegrityError, match="below the folder"):
        unpack(content.getvalue(), tmp_path / "inside")
    assert list(tmp_path.iterdir()) == []
