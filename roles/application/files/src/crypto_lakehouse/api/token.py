# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `lakehouse token`: print the token of a named client."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from crypto_lakehouse.api.security import derived_token
from crypto_lakehouse.settings import CLIENT_NAME, Settings


def main(argv: Sequence[str]) -> int:
    """Print the token that `LAKEHOUSE_API_TOKEN` gives to a name; the API takes it where its settings have the name."""
    parser = argparse.ArgumentParser(prog="lakehouse token", description=__doc__)
    parser.add_argument("name", help="a name of `lakehouse_api_tokens`")
    name = parser.parse_args(argv).name
    if not re.fullmatch(CLIENT_NAME, name):
        parser.error(f"{name!r} cannot name a token. Use a name of `lakehouse_api_tokens`")
    print(derived_token(Settings.from_environment().require("api_token"), name))
    return 0
