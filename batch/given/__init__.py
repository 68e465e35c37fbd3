"""The input: what its lines may be, and one pass over all of them before anything is sent."""
