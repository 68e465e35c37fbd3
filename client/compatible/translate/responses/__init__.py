"""OpenAI's responses, as a chat: the body and what it asks of a chat, and the answers. What Ollama
is asked for a chat is not said here. Nothing is kept from one to the next.
"""
