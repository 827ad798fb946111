"""How fast a store is read: `python -m benchmarks.stores`, against a MinIO that it starts on this machine.

Each way reads the same object, in turn, several times; the medians and their ratios count, as the machine's speed
varies. Reading ahead is what a work unit does; the ranges are what tasks do that read the runs of many units.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import psutil
import pyarrow.fs
import s3fs

from tests.servers.minio import Endpoint, minio_server
from transforms.read_ahead import BLOCK
from transforms.storage import Storage

URI = "s3://bench/object"
CHUNK = 256 << 10  # 256 KiB, as the reader of lines takes
RANGES = 16


def read_stream(size: int) -> int:
    """Bytes that the mill's stream gives, from the first to the last."""
    with Storage().open(URI, size, size) as stream:
        return sum(iter(lambda: len(stream.read(CHUNK)), 0))


def read_plain(files: s3fs.S3FileSystem) -> int:
    """Bytes that s3fs gives, 8 MiB after 8 MiB."""
    with files.open(URI, "rb", block_size=BLOCK) as stream:
        return sum(iter(lambda: len(stream.read(BLOCK)), 0))


def read_ranges(size: int, read: Callable[[int, int], bytes]) -> int:
    """Bytes of 16 ranges that are read at once."""
    bounds = [size * number // RANGES for number in range(RANGES + 1)]
    with ThreadPoolExecutor(RANGES) as pool:
        return sum(pool.map(lambda start, end: len(read(start, end)), bounds[:-1], bounds[1:]))


def memory_of_reading(size: int) -> float:
    """MiB by which a process grows that has read the first block of the object, and then reads all of it."""
    with Storage().open(URI, size) as stream:
        stream.read(CHUNK)
    me, done = psutil.Process(), threading.Event()
    before = peak = me.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, me.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert read_stream(size) == size
    done.set()
    watcher.join()
    return (peak - before) / (1 << 20)


def ways(endpoint: Endpoint, size: int) -> dict[str, Callable[[], int]]:
    """What is measured, by name; ours first."""
    files = s3fs.S3FileSystem()
    arrow = pyarrow.fs.S3FileSystem(
        endpoint_override=endpoint.url, access_key=endpoint.access_key, secret_key=endpoint.secret_key
    )
    opened = arrow.open_input_file(URI.removeprefix("s3://"))
    storage = Storage()
    return {
        "read ahead": lambda: read_stream(size),
        "s3fs, 8 MiB blocks in a row": lambda: read_plain(files),
        "16 ranges": lambda: read_ranges(size, lambda start, end: storage.read(URI, start, end)),
        "pyarrow.fs, 16 ranges": lambda: read_ranges(size, lambda start, end: opened.read_at(end - start, start)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=300, metavar="MB")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    size = chosen.size * 10**6
    with tempfile.TemporaryDirectory() as folder, minio_server(Path(folder) / "minio", ["bench"]) as endpoint:
        os.environ.update(endpoint.environment)
        source = Path(folder) / "object"
        with source.open("wb") as out:
            for start in range(0, size, 1 << 20):
                out.write(os.urandom(min(1 << 20, size - start)))
        Storage().put_file(URI, str(source))
        measured = ways(endpoint, size)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            grown = pool.submit(memory_of_reading, size).result()
        seconds: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(chosen.rounds):
            for name, read in measured.items():
                began = time.perf_counter()
                assert read() == size
                seconds[name].append(time.perf_counter() - began)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, value in medians.items():
            print(f"{name:28} {value:5.2f} s  {size / value / 1e6:5.0f} MB/s  ({min(seconds[name]):.2f}–{max(seconds[name]):.2f} s)")  # fmt: skip
        ahead, plain, ranges, arrow = medians.values()
        print(f"reading ahead is {plain / ahead:.2f} times as fast as s3fs; 16 ranges {arrow / ranges:.2f} times as pyarrow.fs")  # fmt: skip
        print(f"reading ahead took {grown:.0f} MiB of memory")


if __name__ == "__main__":
    main()
