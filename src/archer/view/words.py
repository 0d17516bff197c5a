"""Games in which something was said or heard: found in the shards, of which only the words are read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

COLUMNS = ["turns.list.element.observation", "turns.list.element.utterance"]
THREADS = 2


def find(shards: Sequence[str], text: str) -> pa.Table:
    """``filename`` and ``file_row_number`` of every game that has ``text``, in any case, in a turn."""
    with ThreadPoolExecutor(THREADS) as readers:
        rows = list(readers.map(partial(_rows, text=text), shards))
    names = np.repeat(np.array(shards, dtype=object), [len(found) for found in rows])
    numbers = np.concatenate([np.zeros(0, np.int64), *rows])
    return pa.table({"filename": pa.array(names, pa.string()), "file_row_number": pa.array(numbers, pa.int64())})


def _rows(shard: str, text: str) -> np.ndarray:
    """Rows of one shard. Most of what is said comes often, and is stored once: so little is searched."""
    with pq.ParquetFile(shard, read_dictionary=COLUMNS) as file:
        games = file.read(columns=COLUMNS, use_threads=False)["turns"].combine_chunks()
    hits = np.zeros(len(games.flatten()), np.bool_)
    for words in games.flatten().flatten():
        found = pc.match_substring(words.dictionary, text, ignore_case=True)
        hits |= pc.take(found, words.indices).to_numpy(zero_copy_only=False)
    parents = pc.list_parent_indices(games).to_numpy(zero_copy_only=False)
    return np.unique(parents[hits]).astype(np.int64)
