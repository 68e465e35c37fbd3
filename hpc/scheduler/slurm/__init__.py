"""All that is Slurm's: its commands, their answers, options, reasons, times and environment."""

TITLE = "Slurm"
