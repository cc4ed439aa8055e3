"""The half of compare_llama_cpp.py that runs llama.cpp: token ids in, logits and greedy continuations out.

    python tools/llama_cpp_peer.py MODEL.gguf IN.npz OUT.npz

It needs llama-cpp-python and numpy, and knows nothing of ds4-backend, so it may run in an environment of its own.
"""

from __future__ import annotations

import sys

import llama_cpp
import numpy as np

PAD = -1


def main() -> None:
    """Reads `text` int [N], `prompts` int [P, longest], `words` str [P]; writes `logits` float32 [N, V], `answers` and
    `ids`, what llama.cpp's tokenizer makes of the words. Rows are filled up with PAD."""
    model, source, target = sys.argv[1:]
    given = np.load(source)
    text = given["text"].tolist()
    prompts = [[id for id in row.tolist() if id != PAD] for row in given["prompts"]]
    words = [str(text) for text in given["words"]]
    tokens, eos = int(given["tokens"]), int(given["eos"])
    llama = open_model(model, max(len(text), *map(len, prompts)) + tokens + 1, bool(given["float_cache"]))
    logits = run(llama, text)
    answers = [greedy(llama, prompt, tokens, eos) for prompt in prompts]
    ids = [llama.tokenize(text.encode(), add_bos=False, special=True) for text in words]
    np.savez(target, logits=logits, answers=padded(answers), ids=padded(ids), version=llama_cpp.__version__)


def padded(rows: list[list[int]]) -> np.ndarray:
    """Rows of different lengths as one array."""
    longest = max(map(len, rows), default=0)
    return np.array([row + [PAD] * (longest - len(row)) for row in rows], np.int64)


def open_model(path: str, context: int, float_cache: bool) -> llama_cpp.Llama:
    """The model on the CPU, logits of every token kept; the cache in float32, or llama.cpp's default float16."""
    kind = llama_cpp.GGML_TYPE_F32 if float_cache else llama_cpp.GGML_TYPE_F16
    return llama_cpp.Llama(
        path, n_ctx=context, logits_all=True, n_gpu_layers=0, type_k=kind, type_v=kind, use_mmap=True, verbose=False
    )


def run(llama: llama_cpp.Llama, ids: list[int]) -> np.ndarray:
    """Logits [N, V] of a fresh conversation."""
    llama.reset()
    llama._ctx.kv_cache_clear()
    llama.eval(ids)
    return np.array(llama.scores[: len(ids)], np.float32)


def greedy(llama: llama_cpp.Llama, prompt: list[int], tokens: int, eos: int) -> list[int]:
    """The likeliest tokens after a prompt, at most `tokens`, the end-of-sentence one included."""
    answer = [int(run(llama, prompt)[-1].argmax())]
    while len(answer) < tokens and answer[-1] != eos:
        llama.eval(answer[-1:])
        answer.append(int(llama.scores[llama.n_tokens - 1].argmax()))
    return answer


if __name__ == "__main__":
    main()
