"""The only reader of the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forexgpt_core.errors import BadInput, NotReady

_CTRADER = "FOREXGPT_CTRADER_"
_ENVIRONMENTS = ("demo", "live")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where ForexGPT keeps its state. Every location derives from `home` unless set on its own.

    Keys of providers are never shown by `repr`. Their addresses are None where the real ones hold.
    """

    home: Path
    database_url: str
    lake: str
    mlflow_tracking_uri: str
    tiingo_key: str | None = field(default=None, repr=False)
    alpha_vantage_key: str | None = field(default=None, repr=False)
    dukascopy_url: str | None = field(default=None, repr=False)  # an address may hold a password
    tiingo_url: str | None = field(default=None, repr=False)
    alpha_vantage_url: str | None = field(default=None, repr=False)

    @property
    def dagster_home(self) -> Path:
        """Return the folder of Dagster's own state and of dagster.yaml."""
        return self.home / "dagster"

    @property
    def bundles(self) -> Path:
        """Return the folder of all bundles."""
        return self.home / "bundles"

    @property
    def mlflow_artifacts(self) -> Path:
        """Return the folder of MLflow artifacts."""
        return self.home / "mlflow" / "artifacts"

    @property
    def work(self) -> Path:
        """Return the folder for checkpoints and lock files."""
        return self.home / "work"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings found in the environment (by default that of this process)."""
    env = os.environ if environment is None else environment
    home = Path(env.get("FOREXGPT_HOME") or ".forexgpt").expanduser().resolve()
    return Settings(
        home=home,
        database_url=env.get("FOREXGPT_DATABASE_URL") or f"sqlite:///{home / 'forexgpt.sqlite'}",
        lake=env.get("FOREXGPT_LAKE") or str(home / "lake"),
        mlflow_tracking_uri=env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow' / 'mlflow.sqlite'}",
        tiingo_key=_text(env, "FOREXGPT_TIINGO_KEY"),
        alpha_vantage_key=_text(env, "FOREXGPT_ALPHA_VANTAGE_KEY"),
        dukascopy_url=_text(env, "FOREXGPT_DUKASCOPY_URL"),
        tiingo_url=_text(env, "FOREXGPT_TIINGO_URL"),
        alpha_vantage_url=_text(env, "FOREXGPT_ALPHA_VANTAGE_URL"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CTraderSettings:
    """How to reach a cTrader account. What proves who we are is kept out of `repr`.

    Attributes:
        environment: "demo" or "live"; the two are separate worlds with separate servers.
        ca_file: the only certificate authority to trust; None for those of the system.
        account_id: the ctidTraderAccountId, which is not the login shown in the platform.
    """

    host: str
    port: int = 5035
    environment: str = "demo"
    ca_file: Path | None = None
    client_id: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    account_id: int | None = None

    def __post_init__(self) -> None:
        if self.environment not in _ENVIRONMENTS:
            raise BadInput(f"{_CTRADER}ENVIRONMENT must be demo or live, was '{self.environment}'")
        if not 0 < self.port < 65536:
            raise BadInput(f"{_CTRADER}PORT must lie between 1 and 65535, was {self.port}")

    def require(self) -> None:
        """Do nothing if an account can be logged in with these.

        Raises:
            NotReady: something is not set; the text names the variables and never a value.
        """
        wanted = {
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret,
            "ACCESS_TOKEN": self.access_token,
            "ACCOUNT_ID": self.account_id,
        }
        missing = [f"{_CTRADER}{name}" for name, value in wanted.items() if not value]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise NotReady(f"cTrader cannot be used: {', '.join(missing)} {verb} not set in the environment")

    def secrets(self) -> tuple[str, ...]:
        """Return what must never be shown, the longest first, so that none is left over in parts."""
        found = {self.client_secret, self.access_token, self.refresh_token} - {""}
        return tuple(sorted(found, key=len, reverse=True))


def load_ctrader_settings(environment: Mapping[str, str] | None = None) -> CTraderSettings:
    """Return the cTrader account of the environment (by default that of this process).

    Raises:
        BadInput: a number is no number, or the environment is neither demo nor live.
    """
    env = os.environ if environment is None else environment

    def text(name: str) -> str:
        return env.get(_CTRADER + name, "").strip()

    where = text("ENVIRONMENT").lower() or "demo"
    ca_file = text("CA_FILE")
    return CTraderSettings(
        environment=where,
        host=text("HOST") or f"{where}.ctraderapi.com",
        port=_number(text("PORT"), "PORT") or 5035,
        ca_file=Path(ca_file).expanduser() if ca_file else None,
        client_id=text("CLIENT_ID"),
        client_secret=text("CLIENT_SECRET"),
        access_token=text("ACCESS_TOKEN"),
        refresh_token=text("REFRESH_TOKEN"),
        account_id=_number(text("ACCOUNT_ID"), "ACCOUNT_ID"),
    )


def _number(text: str, name: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadInput(f"{_CTRADER}{name} must be a whole number, has {len(text)} characters that are not all digits")
    return int(text)


def _text(env: Mapping[str, str], name: str) -> str | None:
    """Return a variable without the blanks that copying brings along, None where nothing remains."""
    return env.get(name, "").strip() or None
