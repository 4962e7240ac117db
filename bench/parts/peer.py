"""img2dataset's side of `bench/corpus.py`, run by the Python of its own environment.

    build/img2dataset/bin/python bench/parts/peer.py URLS OUT SIDE

Does one shard of URLS with one worker of four threads as its command would, after a small shard
that warms up, and prints the CPU seconds of the whole process an image.
"""

import sys
import time
from pathlib import Path

import pyarrow as pa
from img2dataset.downloader import Downloader
from img2dataset.resizer import Resizer
from img2dataset.writer import WebDatasetSampleWriter

FEW = 50
THREADS = 4  # the best of 2 to 64 on loopback


def worker(out: Path, side: int) -> Downloader:
    """Return what its command makes of --disable_all_reencoding, or of a largest side."""
    whole = {"image_size": 256, "resize_mode": "no", "resize_only_if_bigger": False}
    smaller = {
        "image_size": side,
        "resize_mode": "keep_ratio_largest",
        "resize_only_if_bigger": True,
        "encode_quality": 85,
        "skip_reencode": True,
    }
    resizer = Resizer(**(smaller if side else {**whole, "disable_all_reencoding": True}))
    return Downloader(
        sample_writer_class=WebDatasetSampleWriter,
        resizer=resizer,
        thread_count=THREADS,
        save_caption=False,
        extract_exif=True,
        output_folder=str(out),
        column_list=["url"],
        timeout=10,
        number_sample_per_shard=1000,
        oom_shard_count=5,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format="jpg",
        retries=0,
        user_agent_token=None,
        disallowed_header_directives=["noai", "noimageai", "noindex", "noimageindex"],
    )


def main() -> None:
    urls, out, side = Path(sys.argv[1]).read_text().split(), Path(sys.argv[2]), int(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    download = worker(out, side)
    spent = 0.0
    for number, part in enumerate((urls[:FEW], urls)):
        shard = out / f"{number}.feather"
        table = pa.table({"url": part})
        with pa.OSFile(str(shard), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        started = time.process_time()
        download((number, str(shard)))
        spent = time.process_time() - started
    print(spent / len(urls))


if __name__ == "__main__":
    main()
