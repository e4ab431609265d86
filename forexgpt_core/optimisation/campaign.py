"""A training campaign: a grid over pairs, timeframes, horizons, families and options, member by member."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput, ForexGPTError, UnknownName
from forexgpt_core.evaluation.cross_validation import REFERENCE
from forexgpt_core.evaluation.walk_forward import Candidate, WalkForwardSettings
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.models.catalogue import FAMILIES, new_forecaster
from forexgpt_core.models.forecaster import MOST_SEED

MOST_MEMBERS = 5_000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, kw_only=True)
class CampaignMember:
    """One configuration of one family for one pair, timeframe and set of horizons.

    Attributes:
        recipe: feature recipe as its document; empty for the pair's own.
    """

    symbol: str
    timeframe: str
    horizons_bars: tuple[int, ...]
    family: str
    options: Mapping[str, object]
    seed: int
    walk_forward: WalkForwardSettings
    recipe: Mapping[str, object]

    @cached_property
    def hash12(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the configuration's canonical JSON."""
        return hashlib.sha256(_canonical(self.to_document()).encode()).hexdigest()[:12]

    @property
    def is_reference(self) -> bool:
        """Return whether this is the random walk that every other member is compared with."""
        return self.family == REFERENCE and not self.options

    @property
    def candidate(self) -> Candidate:
        """Return what walk-forward validates."""
        return Candidate(name=self.family, family=self.family, options=self.options, seed=self.seed)

    @property
    def title(self) -> str:
        """Return the member as a person would call it, such as 'EURUSD H1 [1, 4] boosting rounds=60'."""
        options = "".join(f" {name}={_shown(value)}" for name, value in self.options.items())
        return f"{self.symbol} {self.timeframe} {list(self.horizons_bars)} {self.family}{options}"

    def to_document(self) -> dict[str, object]:
        """Return the member as plain JSON values."""
        return {**asdict(self), "horizons_bars": list(self.horizons_bars)}

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> "CampaignMember":
        """Return the member that `to_document` wrote."""
        values = dict(document)
        settings, horizons = values["walk_forward"], values["horizons_bars"]
        assert isinstance(settings, Mapping) and isinstance(horizons, Sequence)  # noqa: PT018
        values["walk_forward"], values["horizons_bars"] = WalkForwardSettings(**settings), tuple(horizons)
        return cls(**values)  # type: ignore[arg-type]  # of `to_document`


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What to train: every combination is a member, and so is the random walk beside them.

    Attributes:
        name: lower-case letters, digits and _, beginning with a letter, up to 32; tables in the lake carry it.
        horizons: sets of horizons in bars, each increasing; a member forecasts one set.
        parameters: by family, lists of values of its options, to be crossed; a family without is its defaults.
        recipe: feature recipe of every member, as its document; empty for each pair's own.
        most_members: refuse a grid of more members than this, up to 5,000.
    """

    name: str
    symbols: tuple[str, ...]
    timeframes: tuple[str, ...]
    horizons: tuple[tuple[int, ...], ...]
    families: tuple[str, ...]
    parameters: Mapping[str, Mapping[str, Sequence[object]]] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)
    walk_forward: WalkForwardSettings = field(default_factory=WalkForwardSettings)
    seed: int = 7
    most_members: int = 200

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInput(
                f"a campaign's name must be up to 32 lower-case letters, digits and _, and begin with a letter; was"
                f" '{self.name}'"
            )
        canonical = {
            "symbols": tuple(instrument(symbol).symbol for symbol in self.symbols),
            "timeframes": tuple(str(Timeframe.parse(timeframe)) for timeframe in self.timeframes),
            "parameters": _parameters(self.parameters, self.families),
            "recipe": _copied(self.recipe, "recipe"),
        }
        for name, value in canonical.items():
            object.__setattr__(self, name, value)
        for name in ("symbols", "timeframes", "horizons", "families"):
            _require_each_once(name, getattr(self, name))
        for horizons in self.horizons:
            if not horizons or horizons[0] < 1 or list(horizons) != sorted(set(horizons)):
                raise BadInput(f"each of horizons must be increasing whole numbers from 1, was {list(horizons)}")
        for family in self.families:
            if family not in FAMILIES:
                raise UnknownName(f"unknown model family '{family}'; known: {', '.join(FAMILIES)}")
        if not (0 <= self.seed <= MOST_SEED and 1 <= self.most_members <= MOST_MEMBERS):
            raise BadInput(
                f"seed must lie in 0 to {MOST_SEED} and most_members in 1 to {MOST_MEMBERS}, were {self.seed} and"
                f" {self.most_members}"
            )
        if self.size > self.most_members:
            raise BadInput(
                f"the grid of campaign '{self.name}' has {self.size} members, more than most_members"
                f" {self.most_members}: name fewer values, or raise most_members (up to {MOST_MEMBERS})"
            )

    @property
    def size(self) -> int:
        """Return how many members the grid has, the random walks included; counted without making them."""
        grids = [math.prod(len(values) for values in self._grid(family).values()) for family in self.families]
        plain = REFERENCE in self.families and not self._grid(REFERENCE)  # is the reference itself
        each = sum(grids) + (0 if plain else 1)
        return len(self.symbols) * len(self.timeframes) * len(self.horizons) * each

    @property
    def hash12(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(_canonical(self.to_document()).encode()).hexdigest()[:12]

    def to_document(self) -> dict[str, object]:
        """Return the campaign as plain JSON values; `deployment.campaign_documents` reads it."""
        return dict(json.loads(json.dumps(asdict(self))))

    def members(self) -> tuple[CampaignMember, ...]:
        """Return every member, each once, in the order of the lists; the random walk before those it is beside."""
        every = itertools.product(self.symbols, self.timeframes, self.horizons)
        return tuple(
            CampaignMember(
                symbol=symbol,
                timeframe=timeframe,
                horizons_bars=horizons,
                family=family,
                options=options,
                seed=self.seed,
                walk_forward=self.walk_forward,
                recipe=self.recipe,
            )
            for symbol, timeframe, horizons in every
            for family, options in self._configurations()
        )

    def require_buildable(self) -> None:
        """Refuse options that a family does not have or does not take, and an unlawful recipe; imports what is named.

        Raises:
            BadInput: one of them is there; the text names the family or the setting of the recipe.
        """
        if self.recipe:
            try:
                Recipe.from_document(self.recipe)
            except ForexGPTError as error:
                raise BadInput(f"the campaign's recipe: {error}") from None
        for family, options in self._configurations():
            try:
                new_forecaster(family, options)
            except BadInput as error:
                raise BadInput(f"parameters of {family}: {error}") from None
            except TypeError as error:  # a value that cannot even be compared
                given = ", ".join(f"{name}={_shown(value)}" for name, value in options.items())
                raise BadInput(f"parameters of {family}: {given} has a value of a wrong type ({error})") from None

    def _grid(self, family: str) -> Mapping[str, Sequence[object]]:
        return self.parameters.get(family, {})

    def _configurations(self) -> list[tuple[str, dict[str, object]]]:
        found: list[tuple[str, dict[str, object]]] = [(REFERENCE, {})]
        for family in self.families:
            names, lists = list(self._grid(family)), list(self._grid(family).values())
            found += [(family, dict(zip(names, values, strict=True))) for values in itertools.product(*lists)]
        return [one for place, one in enumerate(found) if one != (REFERENCE, {}) or place == 0]


def _parameters(
    given: Mapping[str, Mapping[str, Sequence[object]]], families: Sequence[str]
) -> dict[str, dict[str, list[object]]]:
    """Return the lists copied and ordered by name, so that the order of a document's keys changes nothing."""
    copied: dict[str, dict[str, list[object]]] = {}
    for family in sorted(given):
        if family not in families:
            raise BadInput(f"parameters name '{family}', which is not among the families: {', '.join(families)}")
        grid = _copied(given[family], f"parameters.{family}")
        for option, values in grid.items():
            where = f"parameters.{family}.{option}"
            if not isinstance(values, list) or not values:
                raise BadInput(f"{where} must be a list of values to try, such as [3, 5], was {_shown(values)}")
            _require_each_once(where, values)
        if grid:
            copied[family] = {option: grid[option] for option in sorted(grid)}  # type: ignore[misc]  # lists, as seen
    return copied


def _copied(value: object, where: str) -> dict[str, object]:
    """Return a mapping as new plain JSON values, so nobody changes frozen settings from outside."""
    if not isinstance(value, Mapping):
        raise BadInput(f"{where} must be a mapping, was {_shown(value)}")
    try:
        copied = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where} must hold text, finite numbers, true/false, lists or mappings: {error}") from None
    return dict(copied)


def _require_each_once(where: str, values: Iterable[object]) -> None:
    written = [_canonical(value) for value in values]
    if not written:
        raise BadInput(f"{where} must name one or more")
    if twice := next((one for one in written if written.count(one) > 1), None):
        raise BadInput(f"{where} name {twice.strip(chr(34))} twice")


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
