"""This machine in place of a scheduler: the same job scripts as processes of their own.

Scripts have the head that sbatch reads, and a job sees none of Slurm's variables: slurm/ has both.
"""
