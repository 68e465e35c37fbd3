"""What of a long work is done: the ledger of a batch or of a campaign.

Here: the file itself, and what decides a result. Not here: what a unit of work is, and how it is
done; `batch` and `campaign` know that.
"""
