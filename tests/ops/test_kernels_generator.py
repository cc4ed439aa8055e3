"""The rewriting from the common dialect to CUDA, and the texts that both languages get."""

import re

import pytest

from ds4_backend.ops.kernels import generator
from ds4_backend.ops.kernels.generator import compact, render, to_cuda
from ds4_backend.ops.kernels.kernel import Kernel


def test_address_spaces_go_and_threadgroup_arrays_are_shared_and_aligned():
    text = "threadgroup half kv[16 * LD];\ndevice const uint4* from = (device const uint4*)w;\nthread float* p;"
    assert to_cuda(text) == (
        "__shared__ __align__(32) half kv[16 * LD];\nconst uint4* from = (const uint4*)w;\nfloat* p;"
    )


def test_barriers_attributes_and_functions_get_their_names():
    text = (
        "inline void f(threadgroup float* s) { threadgroup_barrier(mem_flags::mem_threadgroup); }\n"
        "simdgroup_barrier(mem_flags::mem_threadgroup);\n"
        "const uint a = threadgroup_position_in_grid.y + thread_index_in_simdgroup;"
    )
    assert to_cuda(text) == (
        "__device__ inline void f(float* s) { __syncthreads(); }\n__syncwarp();\n"
        "const uint a = blockIdx.y + (threadIdx.x & 31u);"
    )


def test_a_text_loses_comments_indentation_and_empty_lines():
    assert compact("// why\n  int a;  // what\n\n    int b;\n") == "int a;\nint b;\n"
    assert render("  device float* x;  // y", "metal") == "device float* x;\n"


def test_constants_and_parts_are_put_into_the_body_by_whole_words():
    kernel = Kernel(
        "append", ("x",), ("y",), 64, {"N": 3, "E": 1e-6, "ON": True, "T": "half"}, (), {"BODY": "KEEP = N;"}
    )
    assert kernel.text == (
        "constexpr int THREADS = 64;\nconstexpr int N = 3;\nconstexpr float E = 1e-06f;\nconstexpr bool ON = true;\n"
        "typedef half T;\nKEEP = N;\n"
    )


def test_a_kernels_name_changes_with_its_text():
    one, other = (Kernel("append", ("x",), ("y",), 64, {"N": n}, (), {"BODY": ""}) for n in (1, 2))
    assert one.name != other.name and one.name.startswith("ds4_append_")


def texts():
    folder = generator.files("ds4_backend.ops.kernels").joinpath("text")
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".msl"))


@pytest.mark.parametrize("name", texts())
def test_every_pointer_names_its_address_space(name):
    """Metal demands it, and nothing here would notice: CUDA and the CPU know no address spaces."""
    text = compact(generator.source(name))
    pointer = r"((?:\w+\s+)*)(?:uchar|ushort|uint|uint2|uint4|int|float|float4|half|ulong|FN|OUT)\s*\*(?!\s*\d)"
    for found in re.finditer(pointer, text):
        if re.search(r"[*(]\s*$", text[: found.start()]) or "(" in found.group(0):
            continue
        assert re.search(r"\b(device|threadgroup|thread|constant)\b", found.group(1)), found.group(0)


@pytest.mark.parametrize("name", texts())
def test_no_text_names_what_only_one_language_has(name):
    text = compact(generator.source(name))
    for word in ("threadIdx", "blockIdx", "__syncthreads", "__shfl", "simdgroup_load", "metal::", "float4(", "printf"):
        assert word not in text
