"""Retrieval: documents become chunks, chunks become points of Qdrant, questions find them again.

Used by the client service, which owns the store, and by `orch.py --ingest`, which reads the files.
"""
