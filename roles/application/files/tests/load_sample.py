# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the packaged sample into `gold.bench_sample`, with the keys of the worker and the deployed software."""

from __future__ import annotations

from importlib.resources import files

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.settings import Settings

NAME = "bench_sample"


def main() -> None:
    """Create the table, and append every hour of the sample."""
    settings = Settings.from_environment()
    catalog = open_catalog(settings, "gold")
    sample = csv.read_csv(str(files("crypto_lakehouse").joinpath("sample/BTCUSD-1h.csv")))
    opened = pc.cast(sample["open_time"], pa.timestamp("ms"))
    rows = sample.append_column("day", pc.cast(pc.floor_temporal(opened, unit="day"), pa.date32()))
    table = catalog.create_table_if_not_exists(f"{settings.namespace('gold')}.{NAME}", schema=rows.schema)
    table.overwrite(rows)
    print(rows.num_rows)


if __name__ == "__main__":
    main()
