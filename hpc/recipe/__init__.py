"""The recipe: its types and bounds, how it is read, and the documents made of it.

It imports contracts, engines and retrieval; of hpc only how Slurm writes times.
"""
