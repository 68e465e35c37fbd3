"""From submitted jobs to a finished run: waiting, polling, progress, the report at the end.

It imports all of hpc but the commands.
"""
