"""DeepSeek V4 Flash on your own machine, inside the tools you already use.

The core. It knows no host framework (llm, LiteLLM, LangChain): those are thin adapters in `plugins/` and
`adapters/`. Importing it loads nothing heavy; `ds4_backend.connect()` is the way in.
"""

__version__ = "0.1.0"
