"""Results of the core as Dagster metadata: figures that plot over time, tables, pictures."""

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import dagster as dg

MetadataDict = dict[str, dg.MetadataValue]


def figures(values: Mapping[str, object]) -> MetadataDict:
    """Return scalars as metadata; what is undefined (None, NaN, infinite) is shown as text, never as 0."""
    return {name: _scalar(value) for name, value in values.items()}


def _scalar(value: object) -> dg.MetadataValue:
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value) if math.isfinite(value) else dg.MetadataValue.text("undefined")
    if isinstance(value, datetime):
        return dg.MetadataValue.timestamp(value)
    return dg.MetadataValue.text("undefined" if value is None else str(value))


def picture(png: bytes, title: str) -> dg.MetadataValue:
    """Return a PNG as an inline image."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def table(rows: Sequence[Mapping[str, object]]) -> dg.MetadataValue:
    """Return rows as a Dagster table; cells are numbers or text."""
    records = [dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in rows]
    if not records:
        return dg.MetadataValue.text("no rows")
    columns = [dg.TableColumn(name, _column_type(records, name)) for name in records[0].data]
    return dg.MetadataValue.table(records=records, schema=dg.TableSchema(columns=columns))


def column_schema(schema: Mapping[str, object], meanings: Mapping[str, str], required: Sequence[str]) -> dg.TableSchema:
    """Return the columns of a table with their types and meanings, for `dagster/column_schema`."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                str(dtype),
                description=meanings.get(name),
                constraints=dg.TableColumnConstraints(nullable=name not in required, unique=name == "ts_utc"),
            )
            for name, dtype in schema.items()
        ]
    )


def _cell(value: object) -> str | int | float | bool | None:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def _column_type(records: Sequence[dg.TableRecord], name: str) -> str:
    values = [r.data.get(name) for r in records if r.data.get(name) is not None]
    if values and all(isinstance(v, bool) for v in values):
        return "bool"
    return "float" if values and all(isinstance(v, (int, float)) for v in values) else "string"
