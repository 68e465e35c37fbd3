"""The way to a deployment's door from elsewhere: its address, ssh, a local port that stays.

It imports of hpc what reads records and prints lines; a scheduler is asked by orch.py --address
alone, where the output directory is.
"""
