"""Column types and names that mean the same on SQLite and PostgreSQL."""

from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from forexgpt_core.domain.orders import PRICE_DECIMALS
from forexgpt_core.errors import BadInput

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows itself for INTEGER alone
_SMALLEST = Decimal(1).scaleb(-PRICE_DECIMALS)
_WIDE = Context(prec=60)  # the usual 28 digits are not enough for a large number with sixteen decimals


class UtcTime(TypeDecorator[datetime]):
    """An aware time, stored in UTC and read back aware; a time without a zone is refused."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC, naive on SQLite, whose text would otherwise sort wrongly."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise BadInput(f"{value} has no time zone; every stored time is UTC and says so")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored time as an aware one."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Exact(TypeDecorator[Decimal]):
    """A Decimal with up to sixteen decimals: NUMERIC on PostgreSQL, text on SQLite, which has no decimal type."""

    impl = sa.Numeric(32, PRICE_DECIMALS)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the column type of the database at hand."""
        return dialect.type_descriptor(sa.String(40) if dialect.name == "sqlite" else self.impl)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Return the stored form; more than sixteen decimals are rounded here, on both databases alike."""
        if value is None:
            return None
        rounded = value.quantize(_SMALLEST, context=_WIDE)
        return format(rounded, "f") if dialect.name == "sqlite" else rounded

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:
        """Return the stored number without trailing zeros."""
        if value is None:
            return None
        number = Decimal(value).normalize(_WIDE)
        return number if number.as_tuple().exponent <= 0 else number.quantize(Decimal(1))  # type: ignore[operator]  # finite


def now_utc() -> datetime:
    """Return the time of the clock on the wall."""
    return datetime.now(UTC)
