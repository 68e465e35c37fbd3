"""Deployments by their records: how each is, what ends it, what it leaves.

It imports contracts and, of hpc, what has no command: output directory, scheduler, site, recipe.
"""
