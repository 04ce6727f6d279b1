# SPDX-License-Identifier: GPL-3.0-or-later
"""The libraries of an unpacked browser are found in any folder of its packages."""

from __future__ import annotations

from pathlib import Path

from tools.browser import library_folders

USR_LIB = "usr/lib/x86_64-linux-gnu"


def test_private_folders_of_a_library_are_found_and_others_are_left_out(tmp_path: Path) -> None:
    for name in (
        f"{USR_LIB}/libpulse.so.0.24.2",
        f"{USR_LIB}/pulseaudio/libpulsecommon-16.1.so",
        "usr/lib/chromium/libEGL.so",
        "usr/lib/chromium/locales/de.pak",
        "usr/lib/python3/notes.so.txt",
        "usr/share/libelsewhere.so",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in library_folders(tmp_path)]
    assert found == ["usr/lib/chromium", USR_LIB, f"{USR_LIB}/pulseaudio"]
