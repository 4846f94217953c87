"""What a corpus holds, as rows of a Parquet file: films as they were found, or pieces of them in shards."""
