"""The lake: partitions of Parquet tables, replaced atomically and verified when read, on disk or in a bucket.

Start with lake. What a partition's manifest says is in manifest, how bytes reach a place in atomic_folder and
object_store; what tables mean belongs to contracts.
"""
