"""Bodies and answers of the APIs of OpenAI and Anthropic, and Ollama's in their place: what comes
in as a typed body, what Ollama is asked for it, what its answers are in the shapes of the API. What
asks for a chat in another way than OpenAI's chats is made such a chat first (`messages`,
`responses`).

Nothing here asks anybody. It imports contracts, engines, and beside itself errors and compact.
"""
