"""Offline retrieval of passages: hashing embedding in Chroma fused with SQLite full-text search."""
