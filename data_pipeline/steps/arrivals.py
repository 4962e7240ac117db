"""What arrived for the addresses of one partition: its images and how they look."""

from data_pipeline.steps.tables import Row, iterate_rows
from data_pipeline.units import Work


def download_units(work: Work, partition: str) -> list[str]:
    """Return the download units of a partition in the order in which they count: retries last."""
    places = work.earlier("download", "images.parquet")
    return sorted(unit for unit in places if unit.partition("-")[0] == partition)


def images_of(work: Work, partition: str) -> dict[str, Row]:
    """Return the images of a partition by address, each with its unit.

    Where an address was fetched again, what came last counts.
    """
    places = work.earlier("download", "images.parquet")
    return {
        row["url"]: {**row, "unit": unit}
        for unit in download_units(work, partition)
        for row in iterate_rows(places[unit])
    }


def looks_of(work: Work, partition: str) -> dict[str, Row]:
    """Return how the images of a partition look, by hash."""
    places = work.earlier("image_filter", "looks.parquet")
    units = download_units(work, partition)
    return {row["sha256"]: row for unit in units for row in iterate_rows(places[unit])}
