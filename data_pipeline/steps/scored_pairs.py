"""The pairs of one bucket that passed the score, by column, with their texts end to end.

Steps that see the whole corpus work on columns: a bucket has tens of thousands of pairs, and of
most of them neither text nor address has to become an object. `pair.Pair` is the plain form, which
the twin of the aggregation works on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trawl import storage

Numbers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_OF_TEXTS = ("reason", "text_digests", "text_scores")


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs in the order of their arrival.

    table: the columns that were asked for; owner int64 [texts]: the pair of each text, rising, and
    a pair's texts are best first; digests [texts]: what stands for the text; scores [texts];
    agrees bool [texts]: whether it reaches the threshold.
    """

    table: pa.Table
    owner: Numbers
    digests: pa.Array
    scores: Scores
    agrees: Flags

    @classmethod
    def read(cls, uri: str, columns: Sequence[str], threshold: float) -> "ScoredPairs":
        """Read the pairs of a scored bucket that passed."""
        table = _passed(uri, [*columns, *_OF_TEXTS])
        digests = _one(table.column("text_digests"))
        scores = _one(table.column("text_scores")).flatten().to_numpy()
        owner = pc.list_parent_indices(digests).to_numpy().astype(np.int64)
        kept = table.select(list(columns))
        return cls(kept, owner, digests.flatten(), scores, scores >= threshold)

    def __len__(self) -> int:
        return len(self.table)

    def having(self, texts: Flags) -> Flags:
        """Return which pairs have one of the `texts` bool [texts]: bool [pairs]."""
        found = np.zeros(len(self), dtype=bool)
        found[self.owner[texts]] = True
        return found

    def best_scores(self, texts: Flags) -> Scores:
        """Return the score of the first of the `texts` of each pair, 0 where it has none."""
        found = np.zeros(len(self))
        chosen = np.flatnonzero(texts)
        # Written from the last to the first, so that the first stays.
        found[self.owner[chosen[::-1]]] = self.scores[chosen[::-1]]
        return found

    def captions(self, pairs: Numbers, texts: Flags) -> pa.Array:
        """Return the captions of some `pairs` as JSON, of their `texts` bool [texts] alone.

        Where nothing is left out, that is what stands in the column `captions`.
        """
        known = self.table.column("captions").take(pa.array(pairs)).combine_chunks()
        dropped = np.bincount(self.owner[~texts], minlength=len(self))[pairs] > 0
        if not dropped.any():
            return _one(known)
        ends = np.searchsorted(self.owner, np.arange(len(self) + 1))
        said = known.to_pylist()
        for place in np.flatnonzero(dropped).tolist():
            pair = pairs[place]
            marks = texts[ends[pair] : ends[pair + 1]].tolist()
            captions = zip(json.loads(said[place]), marks, strict=True)
            said[place] = json.dumps([one for one, mark in captions if mark], ensure_ascii=False)
        return pa.array(said, pa.string())


def _passed(uri: str, columns: Sequence[str]) -> pa.Table:
    """Return `columns` of the pairs of a scored bucket that passed, each in one piece.

    Read by row group and joined by column, so that only one column at a time lies here twice.
    """
    chunks: dict[str, list[pa.Array]] = {name: [] for name in columns}
    with storage.open_read(uri) as file:
        scored = pq.ParquetFile(file)
        schema = scored.schema_arrow
        for number in range(scored.num_row_groups):
            group = scored.read_row_group(number, columns=list(columns))
            passed = group.filter(pc.equal(group.column("reason"), ""))
            for name, kept in chunks.items():
                kept.extend(passed.column(name).chunks)
    joined = {
        name: _one(pa.chunked_array(chunks.pop(name), schema.field(name).type)) for name in columns
    }
    return pa.table(joined)


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column as one array."""
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column
