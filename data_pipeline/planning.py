"""Estimates what a corpus takes, from measured rates: cores, hours, bytes, money."""

from collections.abc import Iterator
from dataclasses import dataclass

from data_pipeline.rates import STEPS, Rates
from data_pipeline.recipe import CorpusRecipe

_CANDIDATES_PER_PARTITION = 100_000
_MOST_PARTITIONS = 65_536


@dataclass(frozen=True)
class Prices:
    """What is at hand and what it costs; dollars, bytes a second for each machine."""

    machines: int = 10
    cores: int = 16
    gpus: int = 0
    gpu_images_per_second: float = 0.0
    utilisation: float = 0.7
    megabits_per_second: float = 5_000.0
    core_hour: float = 0.04
    gpu_hour: float = 2.5
    gigabyte_in: float = 0.0
    gigabyte_month: float = 0.023
    months: float = 1.0


@dataclass(frozen=True)
class Step:
    """One step of a plan: items, CPU and GPU hours, bytes over the network."""

    name: str
    items: float
    unit: str
    core_hours: float
    gpu_hours: float
    bytes: float


@dataclass(frozen=True)
class Plan:
    """An estimate for `pairs` samples."""

    pairs: float
    steps: list[Step]
    stored: float
    working: float
    prices: Prices
    partitions: int

    @property
    def core_hours(self) -> float:
        """CPU hours of all steps."""
        return sum(step.core_hours for step in self.steps)

    @property
    def gpu_hours(self) -> float:
        """GPU hours of all steps."""
        return sum(step.gpu_hours for step in self.steps)

    @property
    def bytes_in(self) -> float:
        """Bytes that come over the network."""
        return sum(step.bytes for step in self.steps)

    def hours(self) -> dict[str, float]:
        """Return the wall hours that cores, GPUs and the network each need."""
        prices = self.prices
        network = prices.machines * prices.megabits_per_second * 1e6 / 8 * 3600
        cores = prices.machines * prices.cores * prices.utilisation
        gpus = max(1, prices.machines * prices.gpus) * prices.utilisation
        return {
            "cores": self.core_hours / cores,
            "gpus": self.gpu_hours / gpus,
            "network": self.bytes_in / (network * prices.utilisation),
        }

    def dollars(self) -> dict[str, float]:
        """Return the cost by what it is paid for; cores are paid while they wait too."""
        prices = self.prices
        wall = max(self.hours().values())
        months = prices.gigabyte_month * prices.months
        return {
            "cores": wall * prices.machines * prices.cores * prices.core_hour,
            "gpus": wall * prices.machines * prices.gpus * prices.gpu_hour,
            "network": self.bytes_in / 1e9 * prices.gigabyte_in,
            "storage": (self.stored + self.working) / 1e9 * months,
        }


def plan(recipe: CorpusRecipe, rates: Rates, prices: Prices, pairs: float) -> Plan:
    """Return the estimate for `pairs` samples at `rates`.

    Detection runs on GPUs where `prices` have some and a rate for them, else on cores.
    """
    scale = pairs / rates.kept
    on_gpu = bool(prices.gpus and prices.gpu_images_per_second)
    steps = []
    for name, (unit, _) in STEPS.items():
        items = getattr(rates, unit) * scale
        seconds = rates.cpu_seconds.get(name, 0.0) * scale
        gpu_seconds = 0.0
        if name == "detect" and on_gpu:
            seconds, gpu_seconds = 0.0, items / prices.gpu_images_per_second
        moved = {
            "collect": rates.page_bytes * rates.pages * scale,
            "download": rates.image_bytes * rates.images * scale,
        }.get(name, 0.0)
        steps.append(Step(name, items, unit, seconds / 3600, gpu_seconds / 3600, moved))
    candidates = rates.candidates * scale
    images = rates.image_bytes * rates.images * scale
    tables = rates.table_bytes * candidates
    return Plan(
        pairs=pairs,
        steps=steps,
        stored=rates.sample_bytes * pairs + tables,
        working=(images + tables) if recipe.compute.keep_work else 0.0,
        prices=prices,
        partitions=_partitions(candidates, recipe.collect.partitions),
    )


def _partitions(candidates: float, asked: int) -> int:
    """Return the partitions at which one holds a bounded number of candidates."""
    wanted = -(-int(candidates) // _CANDIDATES_PER_PARTITION)
    return max(asked, min(_MOST_PARTITIONS, wanted))


def plan_lines(made: Plan, rates: Rates) -> Iterator[str]:
    """Yield a plan as lines."""
    prices = made.prices
    yield f"{_count(made.pairs)} pairs, by the rates of {rates.measured_on}"
    heads = f"{'core hours':>12} {'GPU hours':>10} {'bytes in':>9}"
    yield f"  {'step':14} {'items':>10}  {'':11} {heads}"
    for step in made.steps:
        cells = f"{step.core_hours:12,.1f} {step.gpu_hours:10,.1f} {_bytes(step.bytes):>9}"
        yield f"  {step.name:14} {_count(step.items):>10}  {step.unit:11} {cells}"
    totals = f"{made.core_hours:12,.1f} {made.gpu_hours:10,.1f} {_bytes(made.bytes_in):>9}"
    yield f"  {'all':14} {'':>10}  {'':11} {totals}"
    hours = made.hours()
    slowest = max(hours, key=lambda name: hours[name])
    yield (
        f"on {prices.machines:,} machines of {prices.cores} cores and {prices.gpus} GPUs, "
        f"{prices.utilisation:.0%} busy: {hours[slowest]:,.1f} hours, held up by {slowest} ("
        + ", ".join(f"{name} {value:,.1f}" for name, value in hours.items())
        + ")"
    )
    yield (
        f"corpus {_bytes(made.stored)}; kept in work/ {_bytes(made.working)}; "
        f"set collect.partitions={made.partitions}"
    )
    dollars = made.dollars()
    parts = ", ".join(f"{name} {value:,.0f}" for name, value in dollars.items())
    yield f"cost ${sum(dollars.values()):,.0f} ({parts})"


def _count(number: float) -> str:
    """Return a number with three digits and a unit."""
    for size, unit in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _bytes(number: float) -> str:
    """Return bytes with three digits and a unit."""
    for size, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f} B"
