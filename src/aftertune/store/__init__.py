"""The run directory: what is written is whole or absent, and what is read is what was written."""

from aftertune.store.atomic import file_sha256, hash_files, publish_directory, put_if_absent, replace
from aftertune.store.content import canonical_json, content_key
from aftertune.store.imports import ImportDirectory
from aftertune.store.remote import RemoteRun, no_weights
from aftertune.store.run import AtWork, RunDirectory, run_at, shard_told
from aftertune.store.run_log import read_events, shard_sums
from aftertune.store.shards import parquet_bytes, parquet_of, read_shards, write_shard

__all__ = [
    "AtWork",
    "ImportDirectory",
    "RemoteRun",
    "RunDirectory",
    "canonical_json",
    "content_key",
    "file_sha256",
    "hash_files",
    "no_weights",
    "parquet_bytes",
    "parquet_of",
    "publish_directory",
    "put_if_absent",
    "read_events",
    "read_shards",
    "replace",
    "run_at",
    "shard_sums",
    "shard_told",
    "write_shard",
]
