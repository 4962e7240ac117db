"""Sources on one core, each against the limit of the library that it stands on, in the same run.

    python bench/sources.py [RECORDS]

WAT pages against FastWARC and json.loads alone, rows of a TSV against csv.reader alone, elements of
a large JSON file against json.load of the whole. CPU time is counted.
"""

import csv
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from fastwarc.warc import ArchiveIterator

from data_pipeline.crawl.warc import METADATA, read_warc
from data_pipeline.sources import json_stream, table
from data_pipeline.sources.recipe import TableSource
from data_pipeline.sources.wat import page_of


def rate(work: Callable[[], Iterable[object]]) -> float:
    """Return the items of `work` in a second of CPU time, the best of three passes."""
    best = 0.0
    for _ in range(3):
        started = time.process_time()
        count = sum(1 for _ in work())
        best = max(best, count / (time.process_time() - started))
    return best


def write_wat(place: Path, count: int) -> None:
    """Write pages with 30 images and 120 links each, as many as real pages have."""
    records = []
    for number in range(count):
        url = f"http://site{number % 50}.example.org/page/{number}.html"
        links = [
            {"path": "IMG@/src", "url": f"/images/{number}-{n}.jpg", "alt": f"A mill number {n}"}
            for n in range(30)
        ]
        links += [{"path": "A@/href", "url": f"/{n}", "text": f"a link {n}"} for n in range(120)]
        html = {"Head": {"Title": "Old mills", "Metas": []}, "Links": links}
        response = {"Response-Message": {"Status": "200"}, "HTML-Metadata": html, "Headers": {}}
        envelope = {
            "WARC-Header-Metadata": {"WARC-Target-URI": url},
            "Payload-Metadata": {"HTTP-Response-Metadata": response},
        }
        body = json.dumps({"Envelope": envelope}).encode()
        head = f"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: {url}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        records.append(gzip.compress(head.encode() + body + b"\r\n\r\n", 6))
    place.write_bytes(b"".join(records))


def wat_alone(place: Path) -> Iterable[object]:
    """Read and parse the records of a WAT file and no more."""
    with place.open("rb") as file:
        for record in ArchiveIterator(file, parse_http=False):
            yield json.loads(record.reader.read())


def csv_alone(place: Path) -> Iterable[object]:
    """Split the lines of a TSV and no more."""
    with place.open(newline="") as file:
        yield from csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


def show(name: str, ours: float, limit: float, unit: str) -> None:
    """Print a rate beside its limit."""
    print(f"{name:24} {ours:10,.0f} {unit}/s  limit {limit:10,.0f}  ratio {ours / limit:.2f}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wat = folder / "x.warc.wat.gz"
        write_wat(wat, count)
        ours = rate(
            lambda: (
                page_of(record.body or b"", "Trawl") for record in read_warc(wat, kinds=METADATA)
            )
        )
        show("WAT pages (150 links)", ours, rate(lambda: wat_alone(wat)), "pages")
        tsv = folder / "x.tsv"
        line = "http://site.example.org/images/{}.jpg\tan old mill by the river in the evening\n"
        tsv.write_text("".join(line.format(number) for number in range(count * 250)))
        source = TableSource(kind="table", format="cc12m", uris=[str(tsv)])
        parts = table.slices(source)
        ours = rate(lambda: (row for part in parts for row in table.read_slice(part, source)))
        show("TSV rows", ours, rate(lambda: csv_alone(tsv)), "rows")
        place = folder / "x.json"
        entry = {"image_id": 1, "id": 2, "caption": "an old mill by the river in the evening"}
        place.write_text(json.dumps({"images": [], "annotations": [entry] * count * 250}))
        ours = rate(lambda: json_stream.elements(str(place), "annotations"))
        limit = rate(lambda: json.loads(place.read_text())["annotations"])
        show("JSON elements", ours, limit, "elements")


if __name__ == "__main__":
    main()
