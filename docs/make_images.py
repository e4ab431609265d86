"""Write the pictures of the README: those the demo's own assets stored in Dagster, unchanged.

    forexgpt demo
    python docs/make_images.py

They are read from DAGSTER_HOME of `FOREXGPT_HOME` (by default ./.forexgpt), the newest materialization of EURUSD.
"""

import base64
import re
import sys
from pathlib import Path

from dagster import AssetKey, AssetRecordsFilter, DagsterInstance

from forexgpt_core.settings import load_settings

IMAGES = Path(__file__).with_name("images")
PICTURES = {  # file: asset and the name of its picture in the metadata
    "skill.png": ("leaderboard", "skill"),
    "pareto.png": ("pareto_configs", "front"),
}
_INLINE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


def stored_picture(instance: DagsterInstance, asset: str, name: str) -> bytes:
    """Return the PNG in the newest materialization of an asset for EURUSD."""
    wanted = AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=["EURUSD"])
    records = instance.fetch_materializations(wanted, limit=1).records
    materialization = records[0].asset_materialization if records else None
    if materialization is None:
        raise SystemExit(f"{asset} has never been materialized for EURUSD here: run 'forexgpt demo' first")
    found = _INLINE.search(str(materialization.metadata[name].value))
    if found is None:
        raise SystemExit(f"the metadata '{name}' of {asset} holds no picture")
    return base64.b64decode(found.group(1))


def main(folder: Path = IMAGES) -> None:
    """Write every picture into `folder`."""
    home = load_settings().dagster_home
    if not (home / "dagster.yaml").is_file():
        raise SystemExit(f"no Dagster state in {home}: run 'forexgpt demo' first")
    folder.mkdir(parents=True, exist_ok=True)
    with DagsterInstance.from_config(str(home)) as instance:
        for file, (asset, name) in PICTURES.items():
            png = stored_picture(instance, asset, name)
            (folder / file).write_bytes(png)
            sys.stdout.write(f"{folder / file}: {len(png):,} bytes\n")


if __name__ == "__main__":
    main()
