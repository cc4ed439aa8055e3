"""How ds4-tiny is made: its data, its network in PyTorch, its training. README.md beside this folder is the recipe."""
