"""Which units collect the candidates of a source: files, slices of tables or sets, or a crawl."""

from data_pipeline.crawling import crawl, seed_addresses
from data_pipeline.scheduling import Scheduler
from data_pipeline.sources import table
from data_pipeline.sources.files import SourceFile, files_of
from data_pipeline.sources.recipe import (
    CaptionsSource,
    CrawlSource,
    Source,
    TableSource,
    WarcSource,
    WatSource,
)
from data_pipeline.steps.captions import IMAGES_PER_UNIT, count_images
from data_pipeline.units import Unit
from trawl import storage

_ARCHIVE_ENDINGS = {"warc": (".warc", ".warc.gz"), "wat": (".wat", ".wat.gz")}


def collect(scheduler: Scheduler) -> None:
    """Run the phases that end with candidates; RequestError if the source is not there."""
    source = scheduler.recipe.collect.source
    if isinstance(source, CrawlSource):
        crawl(scheduler, source)
        return
    scheduler.run("collect", units_of(source))
    if isinstance(source, WarcSource) and scheduler.recipe.download.source == "warc":
        scheduler.run("locate", [Unit("locate", "all")])
        partitions = range(scheduler.recipe.collect.partitions)
        scheduler.run("lend", [Unit("lend", str(n), {"partition": n}) for n in partitions])


def units_of(source: WarcSource | WatSource | TableSource | CaptionsSource) -> list[Unit]:
    """Return the units that read a source, in the order of its files."""
    if isinstance(source, CaptionsSource):
        starts = range(0, count_images(source), IMAGES_PER_UNIT)
        inputs = [{"first": first} for first in starts]
    elif isinstance(source, TableSource):
        inputs = [table.inputs_of(part) for part in table.slices(source)]
    else:
        inputs = [file.inputs() for file in archives(source)]
    return [Unit("collect", f"{number:05d}", found) for number, found in enumerate(inputs)]


def archives(source: WarcSource | WatSource) -> list[SourceFile]:
    """Return the WARC or WAT files that a source names."""
    endings = _ARCHIVE_ENDINGS[source.kind]
    return files_of(source.uris, endings, "collect.source.uris", source.base)


def told(source: Source) -> str:
    """Return what a source holds, in words, after looking that it is there."""
    if isinstance(source, CrawlSource):
        return f"a crawl from {len(seed_addresses(source))} seeds"
    if isinstance(source, CaptionsSource):
        return f"{count_images(source)} images with captions"
    if isinstance(source, TableSource):
        parts = table.slices(source)
        return f"{len({part.uri for part in parts})} files of a table, in {len(parts)} parts"
    files = archives(source)
    sizes = [storage.size(file.uri) for file in files if not file.listed]
    size = f"{sum(sizes) / 1e6:,.1f} MB" if sizes else "out of a list of paths"
    return f"{len(files)} {source.kind.upper()} files, {size}"
