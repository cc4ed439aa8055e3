"""How many launches a step takes, what they need of a GPU, and which arrays carry their order."""

import re
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from random_model import geometry, random_tensors

from ds4_backend.errors import SettingsError
from ds4_backend.gguf.geometry import CSA, HCA, SLIDING, Geometry
from ds4_backend.gguf.shapes import FLASH, PRO, TINY, first_layers
from ds4_backend.measure import synth
from ds4_backend.model import Model
from ds4_backend.model.weights import bind
from ds4_backend.ops.kernels import bodies, wide
from ds4_backend.ops.kernels.ops import KernelOps
from ds4_backend.ops.kernels.projections import Collapse, Job, project

KINDS = {"window": SLIDING, "csa": CSA, "hca": HCA}
SIZES = {"half": 2, "float": 4, "int": 4, "uint": 4, "ulong": 8, "uint4": 16}


class BlankLauncher:
    """Launches nothing; gives zeros of the right shapes and remembers what was asked."""

    language = "metal"

    def __init__(self):
        self.asked = []

    def run(self, kernel, inputs, outputs, groups):
        assert min(groups) > 0, f"{kernel.body}: CUDA refuses the empty grid {groups}"
        self.asked.append((kernel, list(inputs), groups))
        return [mx.zeros(shape, getattr(mx, dtype)) for shape, dtype in outputs]


def blank_model(ratio, **changes):
    g = geometry(
        block_count=1, attention_compress_ratios=(ratio,), hash_layer_count=0, swiglu_clamp_exp=(2.0,), **changes
    )
    launcher = BlankLauncher()
    ops = KernelOps(g, launcher, cache_simulation=True)
    return Model(g, ops, bind(random_tensors(g), g, ops)), launcher


def launches_of_a_step(model, launcher, count=1, sequences=1):
    """Names of the launches of one step of some conversations, without the step's own embedding and head."""
    held = [model.new_sequence() for _ in range(sequences)]
    launcher.asked.clear()
    model.forward([(sequence, [1] * count) for sequence in held])
    names = [kernel.body for kernel, _, _ in launcher.asked]
    for sequence in held:
        sequence.release()
    return names[1:-2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sequences", [1, 3, 8])
def test_a_layer_takes_eleven_launches_to_decode(kind, sequences):
    names = launches_of_a_step(*blank_model(KINDS[kind]), sequences=sequences)
    first = "spread" if sequences == 1 else "hyper"
    attention = [first, "project", "append", "attend", "combine", "project", "project"]
    assert names == [*attention, first, "project", "experts_up", "experts_down"]


@pytest.mark.parametrize("language", ["metal", "cuda"])
@pytest.mark.parametrize(("count", "sequences"), [(1, 1), (1, 8), (40, 1)])
def test_only_cuda_multiplies_on_tensor_cores_what_it_reads_as_it_lies_in_the_file(language, count, sequences):
    g = first_layers(TINY, 3)
    launcher = BlankLauncher()
    launcher.language = language
    ops = KernelOps(g, launcher, cache_simulation=True)
    model = Model(g, ops, bind(synth.random_tensors(g, "q2"), g, ops))
    names = launches_of_a_step(model, launcher, count, sequences)
    wide = {kernel.body for kernel, _, _ in launcher.asked if "mma" in kernel.libraries}
    wanted = {1: {"wide_up", "wide_down"}, 8: {"wide_up", "wide_down", "append", "project"}}[sequences]
    assert wide == (set() if language == "metal" else {"wide_tiles"} if count > 8 else wanted)
    assert count > 8 or len(names) == 11 * 3
    assert ("hyper" in names) == (count > 8 or (language == "metal" and sequences > 1))


def test_a_layer_that_chooses_rows_takes_two_more_and_the_network_no_more_than_twelve_a_layer():
    model, launcher = blank_model(CSA, attention_indexer_top_k=1)
    names = launches_of_a_step(model, launcher, count=8)
    assert len(names) == 13 and names[3:5] == ["score", "top_k"]
    layers = FLASH.block_count
    assert 11 * layers + 2 * len(FLASH.layers_of(CSA)) <= 12 * layers


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_writer_of_a_layer_waits_for_its_last_reader(kind):
    model, launcher = blank_model(KINDS[kind])
    sequence = model.new_sequence()
    model.forward([(sequence, [1])])
    after = model.state.after[0]
    launcher.asked.clear()
    model.forward([(sequence, [2])])
    by_name = {kernel.body: dict(zip(kernel.inputs, inputs, strict=True)) for kernel, inputs, _ in launcher.asked}
    assert by_name["append"]["after"] is after, "a writer takes what the last reader gave"
    assert by_name["attend"]["after"] is not by_name["append"]["after"], "a reader takes what the writer gave"


@pytest.mark.parametrize("tokens", [9, 200])
def test_a_long_span_enters_its_rings_after_it_was_read(tokens):
    model, launcher = blank_model(CSA)
    names = launches_of_a_step(model, launcher, count=tokens)
    assert names.index("append") < names.index("attend") < names.index("keep")
    appended = next(dict(zip(k.inputs, i, strict=True))["step"] for k, i, _ in launcher.asked if k.body == "append")
    assert np.array(appended)[24] == 0, "the append itself leaves the rings alone"


@pytest.mark.parametrize("ratio", KINDS.values())
def test_appending_never_makes_another_pool(ratio):
    """The arrays that hold the state stay the same objects, and so the same memory."""
    model, _ = blank_model(ratio)
    sequence = model.new_sequence()
    model.forward([(sequence, [1] * 5)])
    state = model.state
    held = [*state.window, *(a for group in (state.pools, state.lanes) for arrays in group.values() for a in arrays)]
    for _ in range(4):
        model.forward([(sequence, [1])])
    now = [*state.window, *(a for group in (state.pools, state.lanes) for arrays in group.values() for a in arrays)]
    assert all(a is b for a, b in zip(held, now, strict=True))


def kernels_of(g: Geometry):
    """Every kernel of a network of that shape, as decode and prefill use them."""
    stride, width = 4160, g.attention_head_count * g.attention_key_length
    index = g.attention_indexer_head_count * g.attention_indexer_key_length
    low = g.attention_q_lora_rank
    jobs = (
        Job("Q8_0", width, low, 0, "p", stride, normed=True),
        Job("F16", index, low, width, "p", stride, normed=True),
    )
    columns = {SLIDING: (1024,), CSA: (1024, 1536, 2560, 3584, 3840), HCA: (1024, 1536, 2048)}
    for ratio in KINDS.values():
        used = jobs if ratio == CSA else jobs[:1]
        for slots in (1, 8):
            yield bodies.append(g, ratio, True, columns[ratio], stride, used, slots, "float")
        yield bodies.append(g, ratio, True, columns[ratio], stride, (), 1, "half")
        yield from (bodies.attend(g, ratio, width, type) for type in ("float", "half"))
        yield bodies.keep(g, ratio, columns[ratio], stride, "half")
        yield from (bodies.combine(g, ratio, "float", 1), bodies.combine(g, ratio, "half", 8))
    yield from (bodies.score(g, True, 4096, stride, 0, index, "half", "half"), bodies.top_k(g), bodies.plan(g))
    for together in (1, 4):
        yield from (bodies.hyper(g, "half", True, head, together, "half", not head, 256) for head in (False, True))
    yield from (bodies.spread(g, "half", post) for post in (False, True))
    d, f = g.embedding_length, g.expert_feed_forward_length
    how = Collapse(g.hyper_connection_count, d, 1e-6, 1e-6, 20)
    yield project((Job("Q8_0", low, d, 0), Job("F16", 1024, d, low)), 1, low + 1024, how)
    yield project((Job("F16", 256, d, 0), Job("Q8_0", f, d, 256, paired=True, clamp=10.0)), 1, 256 + f, how)
    yield project((Job("Q8_0", 8 * low, width // 8, 0, stride=width, groups=8),), 1, 8 * low)
    for format in ("IQ2_XXS", "Q2_K", "Q4_K", "MXFP4"):
        yield bodies.experts_up(g, format, False, 10.0, 2304)
        yield bodies.experts_down(g, format, "Q8_0", 2304, 256)
        yield bodies.tiles(format, g.expert_feed_forward_length, g.embedding_length, g.expert_used_count, 10.0)
        yield bodies.tiles(format, g.embedding_length, g.expert_feed_forward_length, g.expert_used_count, None)
        yield bodies.decode(((format, 64), ("F16", 5)), g.embedding_length)
        yield project((Job(format, 64, g.embedding_length, 0),), 8, 64)
    yield from (bodies.embed(g, "F16"), bodies.move(), bodies.gather(g, "half"), bodies.swiglu(f, 2 * f, 10.0))


def wide_kernels_of(g: Geometry):
    """Those that only CUDA has."""
    stride, width, low = 4160, g.attention_head_count * g.attention_key_length, g.attention_q_lora_rank
    query = Job("Q8_0", width, low, 0, "p", stride, normed=True)
    for ratio, columns in ((CSA, (1024, 1536, 2560, 3584, 3840)), (HCA, (1024, 1536, 2048))):
        yield bodies.append(g, ratio, True, columns, stride, (query,), 8, "float", True)
    d, f = g.embedding_length, g.expert_feed_forward_length
    yield bodies.spread(g, "half", True, True)
    yield wide.project((Job("F16", 256, d, 0), Job("Q8_0", f, d, 256, paired=True, clamp=10.0)), 256 + f)
    for format in wide.FORMATS:
        yield wide.project((Job(format, 64, d, 0),), 64)
        yield bodies.wide_up(g, format, False, 10.0, 2304, wide.slots(g.expert_used_count, 4096, format, d))
        yield from (bodies.wide_down(g, format, "Q8_0", 2304, 256, sixteens) for sixteens in (1, 2))
        yield wide.tiles(format, f, d, g.expert_used_count, 10.0)
        yield wide.tiles(format, d, f, g.expert_used_count, None)


def threadgroup_bytes(kernel):
    """Bytes of the arrays that a body declares in threadgroup memory, each on a boundary of 32."""
    values = {"true": 1, "false": 0}
    for kind, name, value in re.findall(r"constexpr (\w+) (\w+) = ([^,;]+)[,;]", kernel.text):
        if kind != "float":
            values[name] = eval(value.replace("/", "//"), {}, values)
    for line in re.findall(r"constexpr uint ([^;]+);", kernel.text):
        for name, value in (part.split(" = ") for part in line.split(", ")):
            values[name.strip()] = eval(value.replace("/", "//"), {}, values)
    total = 0
    for kind, count in re.findall(r"threadgroup (\w+) \w+\[([^;]*)\];", kernel.text):
        count = re.sub(r"\((\w+) \? (\w+) : (\w+)\)", r"(\2 if \1 else \3)", count).replace("/", "//")
        total += -(-SIZES[kind] * eval(count, {}, values) // 32) * 32
    return total


@pytest.mark.parametrize("g", [FLASH, pytest.param(PRO, marks=pytest.mark.slow), TINY], ids=["flash", "pro", "tiny"])
def test_every_kernel_keeps_to_what_any_gpu_has(g):
    """32 KiB of threadgroup memory (on CUDA 48) and 31 arrays, 1024 threads; MLX reads some names as something else."""
    names, alone = set(), list(wide_kernels_of(g))
    every = [*kernels_of(g), *alone]
    for kernel in every:
        own = kernel in alone
        assert own == ("mma" in kernel.libraries or "counters" in kernel.inputs), kernel.body
        assert threadgroup_bytes(kernel) <= (48 if own else 32) << 10, kernel.body
        assert len(kernel.inputs) + len(kernel.outputs) <= 31, kernel.body
        assert kernel.threads % 32 == 0 and kernel.threads <= 512, kernel.body
        for language in ("cuda",) if own else ("metal", "cuda"):
            text = kernel.source(language)
            assert not any(f"{n}_{what}" in text for n in kernel.inputs for what in ("shape", "strides", "ndim"))
            if not own:  # those are launched in graphs and as programs; by MLX as texts only where NVRTC is missing
                assert len(text) + len(kernel.header(language)) < 20_000, "MLX copies the text at every launch"
        names.add(kernel.name)
    assert len(names) == len({id(k) for k in every})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attention_key_length": 520}, "width 520"),
        ({"attention_indexer_key_length": 96}, "width 96"),
        ({"hyper_connection_count": 3}, "3 hyper-connection streams"),
        ({"embedding_length": 68}, "multiple of 8"),
    ],
)
def test_a_size_that_no_kernel_takes_is_refused_with_the_way_out(change, words):
    g = replace(geometry(), **change)
    with pytest.raises(SettingsError, match=rf"{words}.*mlx ops"):
        KernelOps(g, BlankLauncher(), cache_simulation=False)
