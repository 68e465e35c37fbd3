#!/usr/bin/env bash
# llama.cpp's server out of .tools/llamacpp, where scripts/get_llamacpp.sh puts this as .tools/bin/llama-server. It
# finds what it needs by its own place, which may be copied.
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
PYTHONPATH="${ROOT}/.tools/llamacpp" exec "${ROOT}/.venv/bin/python" -s "${ROOT}/lib/llama_server.py" "$@"
