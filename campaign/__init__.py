"""Which of many settings is better, and whether the difference is real.

Here: cells, blocks and their order, the units of the ledger, statistics, the search for the highest
rate, and the report. Not here: how a deployment is brought up and a cell is measured; hpc does it.
"""
