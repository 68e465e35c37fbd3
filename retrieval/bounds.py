"""What POST /points takes, and so what is made of a document: one definition for both sides."""

#: Of a whole body, in bytes.
MAX_BODY_BYTES = 2_000_000
#: Chunks in one body, and chunks of one document.
MAX_CHUNKS = 256
MAX_COUNT = 10_000_000
#: Characters of a chunk's text, and of its heading.
MAX_TEXT = 200_000
#: Characters of a document's name. A path has at most 4,096 bytes, which four characters each name.
MAX_SOURCE = 16_384
#: Keys of a chunk's metadata, and its characters as JSON.
MAX_KEYS = 64
MAX_METADATA = 32_000
#: Whole numbers that can be stored and looked for: of 64 bits.
LOWEST, HIGHEST = -(2**63), 2**63 - 1
