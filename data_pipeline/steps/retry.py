"""Lists the addresses of one partition that failed for a reason that may have passed."""

from data_pipeline.steps.arrivals import images_of
from data_pipeline.steps.gather import URLS, URLS_PER_UNIT
from data_pipeline.steps.tables import iterate_rows, write_rows
from data_pipeline.units import Result, Work


def run(work: Work) -> Result:
    """Write urls.parquet of what is to be fetched again, with all the places to try."""
    partition = str(work.unit.inputs["partition"])
    images = images_of(work, partition)
    places = work.earlier("gather", "urls.parquet")[partition]
    rows = (row for row in iterate_rows(places) if images[row["url"]]["passing"])
    count = write_rows(work.place("urls.parquet"), rows, URLS, group=URLS_PER_UNIT)
    return {"counts": {"urls": count}}
