"""Predictions of millions of pictures in shards: what is asked, rows, shards, and workers of Ray that make them."""
