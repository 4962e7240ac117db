"""Drives the steps that see the whole corpus: by bucket, each unit in bounded memory."""

from dataclasses import dataclass

from data_pipeline.scheduling import Scheduler
from data_pipeline.steps.buckets import bucket_name
from data_pipeline.steps.components import round_name
from data_pipeline.steps.near_duplicates import masks
from data_pipeline.units import Entry, Unit, finish_phase
from trawl.errors import WorkError

HASHES_PER_PAIR = 16  # a hash takes that much less memory than a pair
_MOST_ROUNDS = 200
Slices = list[list[list[object]]]


@dataclass(frozen=True)
class Spread:
    """How the hashes of images are spread for the search for near duplicates.

    For each choice of `untouched` blocks of bits that are equal, `ranges` units.
    """

    untouched: int
    ranges: int
    tables: int

    @classmethod
    def of(cls, images: int, bits: int, most: int) -> "Spread":
        """Return the spread at which a unit holds at most about `most` of `images` hashes."""
        ranges = _quotient(images, most)
        untouched = 0
        if ranges > 1:
            # Enough values of the equal bits that they spread over the units.
            while (64 * untouched // max(1, bits + untouched)) < (8 * ranges).bit_length():
                untouched += 1
        return cls(untouched, ranges, len(masks(bits, untouched)))


def bucket_count(pairs: int, most: int) -> int:
    """Return the number of buckets that hold about `most` pairs each."""
    return _quotient(pairs, most)


def _quotient(count: int, size: int) -> int:
    return max(1, -(-count // size))


def slices(counts: list[int], size: int, least: int = 0) -> Slices:
    """Cut buckets of `counts` rows, one after the other, into groups of `size` rows.

    A group is a list of [name of the bucket, first row, rows]; there are `least` groups or more.
    """
    groups: Slices = [[]]
    room = size
    for bucket, count in enumerate(counts):
        first = 0
        while first < count:
            if not room:
                groups.append([])
                room = size
            taken = min(room, count - first)
            groups[-1].append([bucket_name(bucket), first, taken])
            first, room = first + taken, room - taken
    return groups if groups[0] or least else []


def groups_by_bucket(groups: Slices, buckets: int) -> list[list[str]]:
    """Return for each bucket the names of the groups that hold rows of it."""
    found: list[list[str]] = [[] for _ in range(buckets)]
    for number, group in enumerate(groups):
        for name, _, _ in group:
            found[int(str(name))].append(f"{number:05d}")
    return found


def bucket_units(phase: str, buckets: int, **inputs: object) -> list[Unit]:
    """Return a unit for each bucket."""
    return [
        Unit(phase, bucket_name(bucket), {"bucket": bucket, "buckets": buckets, **inputs})
        for bucket in range(buckets)
    ]


def aggregate(scheduler: Scheduler, pairs: int, groups: list[list[str]]) -> dict[str, Entry]:
    """Decide about all pairs that passed the score; return the entries of `aggregate` by bucket.

    pairs is their number; groups, for each bucket of images, names the units of detection that
    hold its images.
    """
    settings, buckets = scheduler.recipe.aggregate, len(groups)
    most = scheduler.recipe.compute.bucket_pairs * HASHES_PER_PAIR
    spread = Spread.of(pairs, settings.near_duplicate_bits, most)
    inputs = {"untouched": spread.untouched, "ranges": spread.ranges}
    if settings.enabled:
        scheduler.run("count_texts", bucket_units("count_texts", buckets))
        scheduler.run("common_texts", bucket_units("common_texts", buckets))
    scheduler.run("choose", bucket_units("choose", buckets, **inputs))
    if settings.enabled:
        near = [
            Unit("near", f"{number:05d}", {"number": number, "buckets": buckets, **inputs})
            for number in range(spread.tables * spread.ranges)
        ]
        found = scheduler.run("near", near)
        links = sum(entry.result["counts"]["links"] for entry in found.values())
        _join(scheduler, links, buckets, most)
        for phase in ("name_best", "leaders", "follow"):
            scheduler.run(phase, bucket_units(phase, buckets))
    units = [
        Unit("aggregate", unit.name, {**unit.inputs, "groups": groups[bucket]})
        for bucket, unit in enumerate(bucket_units("aggregate", buckets))
    ]
    return scheduler.run("aggregate", units)


def _join(scheduler: Scheduler, links: int, buckets: int, most: int) -> None:
    """Run the phases after which every linked hash is linked to the smallest of its group."""
    if links <= most:
        scheduler.run("components", [Unit("components", "all", {"buckets": buckets})])
        return
    for number in range(_MOST_ROUNDS):
        changed = 0
        for phase in ("large_star", "small_star"):
            units = [
                Unit(phase, round_name(number, bucket), {**unit.inputs, "round": number})
                for bucket, unit in enumerate(bucket_units(phase, buckets))
            ]
            entries = scheduler.run(phase, units)
            changed += sum(entry.result["changed"] for entry in entries.values())
        if not changed:
            finish_phase(scheduler.out, "components", entries)
            return
    raise WorkError(f"near duplicates: the groups were not joined after {_MOST_ROUNDS} rounds")
