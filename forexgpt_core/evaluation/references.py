"""The plainer random walks beside the reference, so that nobody sells the time of day as skill."""

from collections.abc import Mapping

SECOND_REFERENCES: Mapping[str, Mapping[str, object]] = {
    "ewma_walk": {"seasonal": False},
    "walk_250": {"seasonal": False, "volatility": "rolling", "window_bars": 250},
}
