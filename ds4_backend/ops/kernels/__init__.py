"""Fused kernels over raw GGUF blocks, in one source for Metal and CUDA, and the ops built of them.

`text/` holds the bodies, `generator` rewrites them, `kernel` launches them, `ops` is the contract over a launcher.
"""
