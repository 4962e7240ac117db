"""A unit's peak is its own, and what it leaves unused goes back before the next one begins."""

import sys

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline import worker_memory

MIB = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="the peak begins anew on Linux alone")
def test_a_peak_ends_with_the_unit_that_had_it() -> None:
    worker_memory.give_back()
    worker_memory.forget_peak()
    before = worker_memory.peak_mib()
    rows = [np.ones(MIB // 8) for _ in range(300)]
    columns = pa.concat_arrays([pa.array(row) for row in rows])
    assert worker_memory.peak_mib() >= before + 500
    del rows, columns
    worker_memory.give_back()
    worker_memory.forget_peak()
    assert worker_memory.peak_mib() < before + 100
