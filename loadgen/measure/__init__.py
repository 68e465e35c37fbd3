"""Figures: what the recorded requests come to, and whether that may be used.

It imports contracts, engines, and of loadgen the options and the records.
"""
