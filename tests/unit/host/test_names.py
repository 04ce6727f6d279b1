# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of programs and secrets never produce a path outside of the home."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.services import (
    Home,
    Initialise,
    Program,
    Wish,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.tree import Tree
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.secrets.values import SecretError, SecretSpec

HOSTILE = st.sampled_from(["", ".", "..", "../x", "a/b", "/etc/passwd", "a\x00", "a\nb", "%2e%2e", "-a", "a."])


@given(name=HOSTILE)
def test_a_program_is_not_named_so(name: str) -> None:
    with pytest.raises(HostError, match=r"cannot use the program .*: its name becomes the name of files"):
        Program(name, Path("/srv"), Path("/srv/log"))
    with pytest.raises(HostError, match="cannot use the program"):
        Wish(initialise=[Initialise(name, ("true",), Path("/srv/made"))])


@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}[A-Za-z0-9]", fullmatch=True))
def test_the_files_of_a_program_lie_in_their_folders(name: str) -> None:
    home = Home(Path("/srv/home"), Path("/srv/bin"))
    Program(name, Path("/srv"), Path("/srv/log"))
    assert home.applied(name).parent == home.run
    assert home.given_program(name).parent == home.given / "programs"


@given(name=HOSTILE)
def test_a_secret_is_not_named_so(name: str) -> None:
    with pytest.raises(SecretError):
        SecretSpec(name, "password")


@given(name=st.sampled_from(["../x", "a/../../x", "..", "/etc/passwd"]))
def test_a_file_lies_below_its_root(name: str) -> None:
    with pytest.raises(HostError):
        Tree(Path("/srv/home")).parts(Path("/srv/home") / name)
