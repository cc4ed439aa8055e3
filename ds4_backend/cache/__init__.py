"""The disk cache: each token's state is written once, resumed at once, and shared by every process.

It knows bytes and token ids, never tensors. Start at `store.Store`.
"""
