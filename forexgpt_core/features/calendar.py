"""Time of day and week of a bar as points on circles, in the clock of the FX week."""

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Times, hour_of_week

Columns = dict[str, NDArray[np.float64]]

_OPENING_HOUR = 17  # New York; the week and every trading day open then


def calendar(open_utc: Times) -> Columns:
    """Return sine and cosine of a bar's New York hour and of its trading day.

    Both follow New York through its clock changes. A trading day opens at 17:00 New York, so Sunday evening is Monday;
    the circle has seven days, so that the weekend keeps its place between Friday and Monday.

    Args:
        open_utc: (n,) bar opens.
    """
    hours = hour_of_week(open_utc)
    minute = (np.asarray(open_utc, dtype="datetime64[m]").astype(np.int64) % 60) / 60  # offsets are whole hours
    hour_angle = 2 * np.pi * ((hours + _OPENING_HOUR) % 24 + minute) / 24
    day_angle = 2 * np.pi * (hours // 24) / 7
    return {
        "hour_sin": np.sin(hour_angle),
        "hour_cos": np.cos(hour_angle),
        "weekday_sin": np.sin(day_angle),
        "weekday_cos": np.cos(day_angle),
    }
