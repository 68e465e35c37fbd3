"""A campaign is carried out: its file checked, its deployments begun and ended, its cells measured.

Here: what needs recipes, deployments and jobs. Not here: which order, what the ledger means,
statistics and report; the package `campaign` knows that. It imports all of hpc but the commands.
"""
