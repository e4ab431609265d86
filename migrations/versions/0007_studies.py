"""Let a search be resumed and shared: studies have an identity and a state, trials are claimed before they are tried.

Searches of earlier releases are finished, have no identity and keep their trials as they are; whoever tried them is not
known, and each was tried once. `optimisation_trial` is written anew, because its figures may be missing now and its key
becomes (study, configuration). Downgrading drops studies that were not finished and trials without figures, and numbers
the others anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UTC_TIME = sa.DateTime(timezone=True)
COPY = "optimisation_trial_copy"
NEW_COLUMNS = ("key", "identity", "state", "error", "started_utc", "finished_utc")


def upgrade() -> None:
    op.add_column("optimisation_study", sa.Column("key", sa.String(length=64), nullable=True))
    op.add_column("optimisation_study", sa.Column("identity", sa.JSON(), nullable=True))
    op.execute(  # SQLite takes a constraint with its column only
        "ALTER TABLE optimisation_study ADD COLUMN state VARCHAR(12) DEFAULT 'finished' NOT NULL"
        " CONSTRAINT ck_optimisation_study_state CHECK (state IN ('running', 'finished', 'failed', 'stopped'))"
    )
    op.add_column("optimisation_study", sa.Column("error", sa.Text(), nullable=True))
    op.add_column("optimisation_study", sa.Column("started_utc", UTC_TIME, nullable=True))
    op.add_column("optimisation_study", sa.Column("finished_utc", UTC_TIME, nullable=True))
    op.create_index("uq_optimisation_study_key", "optimisation_study", ["key"], unique=True)
    op.execute("UPDATE optimisation_study SET finished_utc = recorded_utc")
    _write_anew(
        [
            sa.Column("in_sample", sa.JSON(), nullable=True),
            sa.Column("out_of_sample", sa.JSON(), nullable=True),
            sa.Column("on_front", sa.Boolean(), nullable=False),
            sa.Column("front_place", sa.Integer(), nullable=True),
            sa.Column("attempts", sa.Integer(), nullable=False),
            sa.Column("worker", sa.String(length=80), nullable=True),
            sa.Column("leased_until_utc", UTC_TIME, nullable=True),
        ],
        key=("study_id", "config_hash"),
        filled={"number": "number", "attempts": "1"},
    )


def downgrade() -> None:
    unfinished = "SELECT id FROM optimisation_study WHERE state <> 'finished'"
    op.execute(f"DELETE FROM optimisation_trial WHERE in_sample IS NULL OR study_id IN ({unfinished})")
    op.execute("DELETE FROM optimisation_study WHERE state <> 'finished'")
    place = "row_number() OVER (PARTITION BY study_id ORDER BY front_place IS NULL, front_place, number, config_hash)"
    _write_anew(
        [
            sa.Column("in_sample", sa.JSON(), nullable=False),
            sa.Column("out_of_sample", sa.JSON(), nullable=True),
            sa.Column("on_front", sa.Boolean(), nullable=False),
        ],
        key=("study_id", "number"),
        filled={"number": f"{place} - 1"},
    )
    op.drop_index("uq_optimisation_study_key", "optimisation_study")
    for name in reversed(NEW_COLUMNS):
        op.drop_column("optimisation_study", name)


def _write_anew(columns: list[sa.Column], *, key: tuple[str, str], filled: dict[str, str]) -> None:
    """Replace the table by one with other columns and another key; SQLite can change neither in place."""
    op.execute(f"CREATE TABLE {COPY} AS SELECT * FROM optimisation_trial")
    op.drop_table("optimisation_trial")
    op.create_table(
        "optimisation_trial",
        sa.Column("study_id", BIG_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("config_hash", sa.String(length=12), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["config_hash"], ["strategy_config.hash12"], name="fk_optimisation_trial_strategy_config"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["optimisation_study.id"], name="fk_optimisation_trial_optimisation_study"
        ),
        sa.PrimaryKeyConstraint(*key, name="pk_optimisation_trial"),
    )
    copied = {name: name for name in ("study_id", "config_hash", "in_sample", "out_of_sample", "on_front")} | filled
    op.execute(f"INSERT INTO optimisation_trial ({', '.join(copied)}) SELECT {', '.join(copied.values())} FROM {COPY}")
    op.drop_table(COPY)
