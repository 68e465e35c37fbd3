"""How the deployment's engine is asked by the client service: a module for each API, which takes
queries and gives answers as Ollama has them, since that is what `/query` speaks.

It imports contracts, engines, and of the client service bodies, answers and errors.
"""
