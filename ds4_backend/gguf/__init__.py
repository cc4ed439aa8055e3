"""GGUF files: reading (validated, memory-mapped), writing, and block formats both ways.

Reading, bottom up: `formats` (the table of block formats), `cursor` (bounds-checked reads), `values` (metadata),
`layout` (where tensors lie), `header` (all before the tensor data), `split` (files in several parts), `decode` (blocks
to float32), `reader` (`open_gguf`), `inspect` (a description to print). Importing the package loads none of them.
"""
