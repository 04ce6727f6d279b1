# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets and configuration of the machine, encrypted with age for recipients whose private keys are elsewhere."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from crypto_lakehouse.backup.errors import BackupError, IntegrityError, RefusedError


def check_recipients(recipients: Iterable[str]) -> None:
    """Check that every recipient is a public key of age.

    Raises:
        RefusedError: where one is not; a private key is not repeated in the message.
    """
    import pyrage

    for number, recipient in enumerate(recipients, start=1):
        try:
            pyrage.x25519.Recipient.from_str(recipient)
        except pyrage.RecipientError:
            kind = "a private key" if recipient.upper().startswith("AGE-SECRET-KEY-") else "not a public key of age"
            raise RefusedError(
                f"cannot encrypt secrets: recipient {number} is {kind}",
                "Set `lakehouse_backup_recipients` to public keys, as `age-keygen -y KEYFILE` prints them.",
            ) from None


def seal(files: Sequence[Path], root: Path, recipients: Sequence[str]) -> bytes:
    """Return an archive of files and folders, with paths relative to a root, encrypted for all recipients.

    A path that does not exist is left out. Sockets, devices and symbolic links are not followed and not stored.

    Raises:
        RefusedError: where a recipient is not a public key.
        BackupError: where a file cannot be read or lies outside the root.
    """
    import pyrage

    check_recipients(recipients)
    public_keys = [pyrage.x25519.Recipient.from_str(recipient) for recipient in recipients]
    return bytes(pyrage.encrypt(_archive(files, root), public_keys))


def unseal(document: bytes, identity: str) -> bytes:
    """Return the archive in an encrypted document.

    Raises:
        RefusedError: where the identity is not a private key of age.
        IntegrityError: where it does not decrypt the document, or the document is damaged.
    """
    import pyrage

    try:
        key = pyrage.x25519.Identity.from_str(identity.strip())
    except pyrage.IdentityError:
        raise RefusedError(
            "cannot decrypt secrets: the identity is not a private key of age",
            "Pass the line of the key file that begins with AGE-SECRET-KEY-1.",
        ) from None
    try:
        return bytes(pyrage.decrypt(document, [key]))
    except pyrage.DecryptError:
        raise IntegrityError(
            "cannot decrypt secrets: the identity is not one of the recipients, or the document is damaged",
            "Use the private key of a recipient that was set when the backup was taken.",
        ) from None


def unpack(archive: bytes, folder: Path) -> list[Path]:
    """Write the files of an archive below a folder, readable for the owner alone; return their paths.

    Raises:
        IntegrityError: where an entry would leave the folder or is not a plain file.
    """
    written = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            source = tar.extractfile(member) if member.isreg() else None
            if source is None or not _stays_inside(member.name):
                raise IntegrityError(f"cannot unpack {member.name!r}: not a plain file below the folder")
            path = folder / member.name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600, exist_ok=False)
            path.write_bytes(source.read())
            written.append(path)
    return written


def _archive(files: Sequence[Path], root: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path in sorted({each for file in files for each in _plain_files(file)}):
            try:
                name = path.relative_to(root).as_posix()
                data = path.read_bytes()
            except (OSError, ValueError) as error:
                raise BackupError(f"cannot store {path}: {error}") from None
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o600
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def _plain_files(path: Path) -> Iterable[Path]:
    if path.is_symlink() or not path.exists():
        return ()
    if path.is_file():
        return (path,)
    return (each for each in path.rglob("*") if each.is_file() and not each.is_symlink())


def _stays_inside(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts
