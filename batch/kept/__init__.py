"""What is done: answers, errors, the ledger, and what is left of them after a kill."""
