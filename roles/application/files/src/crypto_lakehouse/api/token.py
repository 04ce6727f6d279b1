# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `lakehouse token`: print the token of a named client."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from crypto_lakehouse.api.security import derived_token
from crypto_lakehouse.settings import Settings


def main(argv: Sequence[str]) -> int:
    """Print the token for a name, derived from `LAKEHOUSE_API_TOKEN`; the API accepts names in its settings only."""
    parser = argparse.ArgumentParser(prog="lakehouse token", description=__doc__)
    parser.add_argument("name", help="a name of `lakehouse_api_tokens`")
    name, settings = parser.parse_args(argv).name, Settings.from_environment()
    token, names = settings.require("api_token"), sorted(dict(settings.api_tokens))
    if names and name not in names:
        parser.error(f"the API has no token {name!r}. Use a name of `lakehouse_api_tokens`: {', '.join(names)}")
    print(derived_token(token, name))
    return 0
