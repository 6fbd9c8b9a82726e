"""Figure: a number that is not a time beside other times: a latency, a rate, a size, a count."""

import dataclasses
import statistics
import typing


@dataclasses.dataclass
class Figure:
    group: str          # the table it belongs to
    row: str
    column: str
    value: float
    unit: str = ""
    limit: str = ""     # what has to be reached, in words; "" where nothing has


@dataclasses.dataclass
class Family:
    """Figures that are measured together. measure(bench) returns [Figure] and tells what it could not do by bench.miss()."""

    name: str
    measure: typing.Callable
    about: str


def median_figure(group, row, column, values, unit="", limit=""):
    return Figure(group, row, column, statistics.median(values), unit, limit)
