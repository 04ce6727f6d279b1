# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add bytecode to packed modules. The Python of the bytecode runs this file, so it imports only the standard library.

Python imports `NAME.pyc` of an archive before `NAME.py`, and the source if the bytecode is for another version.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
import zipfile
from pathlib import Path

# PEP 552: bytecode with the hash of its source, which is not compared.
_UNCHECKED_HASH = 0b01


def bytecode(name: str, source: bytes) -> bytes:
    """Return the content of the file with a source's bytecode, which is valid for any modification time."""
    code = compile(source, name, "exec", dont_inherit=True)
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little") + importlib.util.source_hash(source)
    return header + marshal.dumps(code)


def add_bytecode(path: Path, made: dict[tuple[str, bytes], bytes]) -> None:
    """Add bytecode to an archive. `made`: bytecode by name and source, because archives share most files."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in [name for name in archive.namelist() if name.endswith(".py")]:
            source = archive.read(name)
            if (name, source) not in made:
                made[name, source] = bytecode(name, source)
            archive.writestr(f"{name}c", made[name, source])


def main(folder: str) -> None:
    """Add bytecode to every archive of a folder."""
    made: dict[tuple[str, bytes], bytes] = {}
    for path in sorted(Path(folder).glob("*.zip")):
        add_bytecode(path, made)


if __name__ == "__main__":
    main(sys.argv[1])
