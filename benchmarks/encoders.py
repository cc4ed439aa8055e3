"""How fast the block encoders are, and how far what they encode is from the original.

    python benchmarks/encoders.py [--weights 1048576] [--threads N] [FORMAT ...]

Prints, for each format: millions of weights a second, megabytes of float32 a second, bits a weight, and the error as a
share of the weights' energy, on normally distributed rows of 1024.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from ds4_backend.gguf import encode, formats
from ds4_backend.gguf.decode import dequantize

ROW = 1024


def measure(format_name: str, x: np.ndarray) -> str:
    encode.quantize(x[:1], format_name)  # loads gguf-py and its grid
    start = time.perf_counter()
    encoded = encode.quantize(x, format_name)
    rate = x.size / (time.perf_counter() - start) / 1e6
    decoded = dequantize(encoded, formats.FORMATS[format_name]).astype(np.float64)
    error = ((x - decoded) ** 2).sum() / (x.astype(np.float64) ** 2).sum()
    return f"{format_name:8} {rate:8.2f} {rate * 4:8.1f} {8 * encoded.nbytes / x.size:8.3f} {error:12.3e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", default=list(encode.LARGEST), metavar="FORMAT")
    parser.add_argument("--weights", type=int, default=1 << 20)
    parser.add_argument("--threads", type=int, default=encode.MAX_THREADS, help="at most this many")
    arguments = parser.parse_args()
    encode.MAX_THREADS = arguments.threads
    x = np.random.default_rng(0).standard_normal((max(1, arguments.weights // ROW), ROW)).astype(np.float32)
    print(f"{'format':8} {'Mw/s':>8} {'MB/s':>8} {'bits/w':>8} {'error':>12}   ({x.size:,} weights)")
    for name in arguments.formats:
        print(measure(name, x), flush=True)


if __name__ == "__main__":
    main()
