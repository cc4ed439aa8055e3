"""Exams for ds4-tiny: held-out tasks, free prompts, long documents, and what happens without a part of the network."""
