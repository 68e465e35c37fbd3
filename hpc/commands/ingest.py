"""--ingest: documents for a deployment's retrieval."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from contracts.errors import UsageError
from contracts.job_files import internal_token_file
from hpc.console import Console
from hpc.deployments.refreshing import live_record
from hpc.endpoints import OutputDir
from hpc.ingest import ingest_paths
from hpc.recipe.reading import parse_recipe


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Bring the documents at a path into a deployment. Raises UsageError or ServiceError."""
    if len(given.ingest) > 2:
        raise UsageError("--ingest takes one path and at most one deployment.")
    path, deployment_id = [*given.ingest, ""][:2]
    record = live_record(deployment_id, output)
    recipe = parse_recipe(record.recipe, "the deployment's recipe")
    retrieval, url = recipe.job.service.wanted_retrieval, record.client
    if retrieval is None:
        raise UsageError(f"{record.id} has no retrieval; its recipe lacks job.service.retrieval.")
    if url is None:
        raise UsageError(f"{record.id} is {record.state}, not ready; wait with --attach.")
    token_file = internal_token_file(output.path, record.id)
    progress = ingest_paths(url, [Path(path)], retrieval, console, token_file)
    if given.json:
        console.json(asdict(progress))
