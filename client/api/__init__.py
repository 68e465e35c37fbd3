"""What comes in and goes out over HTTP: bodies and answers, and the pages that describe them.

Both are pydantic models. It imports contracts, retrieval's bounds, and of the client service its
errors; the page that describes the APIs of others imports its bodies from client/compatible.
"""
