"""What a run leaves behind: files, tables, plots, a report, a push.

It imports contracts, engines, and of loadgen what measures.
"""
