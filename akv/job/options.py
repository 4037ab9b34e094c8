"""The options of a store that has jobs, as they stand in a URL; see Settings."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, get_args

from akv.backend.options import Option, choice, positive_integer, seconds
from akv.job.settings import Consistency, OnLoss

__all__ = ["JOB_OPTIONS"]


def _natural(value: Any) -> int:
    try:
        number = int(value) if isinstance(value, str) else operator.index(value)
    except ValueError:
        number = -1
    if number < 0:
        raise ValueError("it has to be an integer from 0 on")
    return number


# None: no wish.
JOB_OPTIONS: Mapping[str, Option] = {
    "consistency": Option(choice(*get_args(Consistency)), None),
    "staleness": Option(_natural, None),
    "workers": Option(positive_integer, None),
    "on_worker_loss": Option(choice(*get_args(OnLoss)), None),
    "worker_timeout": Option(seconds, None),
    "rank": Option(_natural, None),
    "role": Option(choice("worker", "reader"), "worker"),
}
