"""Many prompts, worked off: a file of them in, a file of answers out, each exactly once.

Here: what a batch's lines may be, who is asked and how often, and its ledger's units. It knows the
deployment by its door alone. Not here: jobs, recipes, and how a batch is begun by a request.
"""
