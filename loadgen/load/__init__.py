"""Sending: what is asked, when and by whom, over which connection, and what came back.

Nothing here knows of figures or files of results. It imports contracts, engines, and of loadgen
the options and the records.
"""
