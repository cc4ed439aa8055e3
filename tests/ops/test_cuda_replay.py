"""Steps as graphs: what is recorded and played again gives what the launches give one by one.

No GPU: a device of host memory runs the very texts on the CPU, and keeps a graph as the list of its launches.
"""

import ctypes
from contextlib import nullcontext
from ctypes.util import find_library

import numpy as np
import pytest
from kernel_shim import COMPILER, ShimError, ShimLauncher, compiled, program
from random_model import geometry, random_tensors

from ds4_backend.errors import EngineError
from ds4_backend.gguf.geometry import CSA, HCA, SLIDING
from ds4_backend.model import Model
from ds4_backend.model.weights import bind
from ds4_backend.ops.cuda import CudaOps, make_launcher, programs, replay
from ds4_backend.ops.cuda.launcher import CudaLauncher
from ds4_backend.ops.cuda.programs import Programs
from ds4_backend.ops.cuda.replay import Replay
from ds4_backend.ops.cuda.tape import Made, Tape
from ds4_backend.ops.kernels.kernel import Kernel, MlxLauncher
from ds4_backend.ops.kernels.ops import KernelOps

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs clang++ or g++")
RATIOS = (SLIDING, CSA, HCA)
G = geometry(attention_compress_ratios=RATIOS, block_count=3, hash_layer_count=1, swiglu_clamp_exp=(2.0,) * 3,
             attention_indexer_top_k=8)  # fmt: skip


class Names:
    """A compiler whose programs are their kernels' names."""

    target = "the shim"

    def __init__(self):
        self.compiled = []

    def compile(self, text, name):
        self.compiled.append(name)
        return name.encode()


class KnownPrograms(Programs):
    """Remembers signatures, so that a program's name leads back to its text."""

    def __init__(self, folder):
        super().__init__(Names(), folder)
        self.signatures = {}

    def get(self, signature):
        self.signatures[signature[0].name] = signature
        return super().get(signature)


class HostDevice:
    """Memory and graphs of the host; freed memory is poisoned, and a dropped graph cannot be launched."""

    def __init__(self, programs):
        self.programs, self.blocks, self.graphs, self.seed = programs, {}, {}, 1
        self.functions = []
        self.dropped = 0

    def alone(self):
        return nullcontext()

    def function(self, program, name):
        kernel, dtypes = self.programs.signatures[program.decode()]
        self.functions.append((kernel, compiled(_text(kernel, dtypes), kernel.name, "cuda")))
        return len(self.functions) - 1

    def allocate(self, nbytes):
        block = np.full(nbytes // 4 + 1, np.nan, np.float32)
        self.blocks[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, address):
        self.blocks.pop(address).fill(np.nan)

    pinned, unpin = allocate, free

    def upload(self, address, host, nbytes):
        ctypes.memmove(address, host, nbytes)

    def download(self, host, address, nbytes):
        ctypes.memmove(host, address, nbytes)

    def synchronize(self):
        pass

    def graph(self, calls):
        self.graphs[len(self.graphs) + self.dropped] = list(calls)
        return len(self.graphs) + self.dropped - 1

    def launch(self, graph):
        for call in self.graphs[graph]:
            kernel, run = self.functions[call.function]
            self.seed += 1
            error = run((ctypes.c_void_p * len(call.addresses))(*call.addresses), *call.groups, call.threads, self.seed)
            if error:
                raise ShimError(f"{kernel.body}: {error.decode()}")

    def drop(self, graph):
        del self.graphs[graph]
        self.dropped += 1


def _text(kernel, dtypes):
    return program(kernel, "cuda", dtypes)


class HostLauncher(CudaLauncher):
    """What goes through MLX on a GPU runs on the shim."""

    def __init__(self, programs):
        self.programs, self.launches, self.by_mlx, self.tape = programs, 0, 0, None
        self.shim = ShimLauncher("cuda")

    def _by_mlx(self, kernel, inputs, outputs, groups):
        return self.shim.run(kernel, inputs, outputs, groups)


class HostOps(CudaOps):
    """The CUDA ops over that device."""

    def __init__(self, g, folder):
        programs = KnownPrograms(folder)
        launcher = HostLauncher(programs)
        KernelOps.__init__(self, g, launcher, cache_simulation=True)
        self.device, self.settled = HostDevice(programs), 0
        self.replay = Replay(self.device, launcher, addresses, self.settle)

    def settle(self, state):
        self.settled += 1
        state.settle()


def addresses(arrays):
    return [np.array(array, copy=False).ctypes.data for array in arrays]


def model_with(ops):
    return Model(G, ops, bind(random_tensors(G), G, ops))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same network with graphs, and with launches one by one."""
    return model_with(HostOps(G, tmp_path_factory.mktemp("programs"))), model_with(
        KernelOps(G, ShimLauncher("cuda"), cache_simulation=True)
    )


def steps(model, sequences, count, first=3):
    """Logits of so many steps of decode, all sequences side by side."""
    return [model.forward([(one, [first + i + n]) for n, one in enumerate(sequences)]) for i in range(count)]


@pytest.mark.slow
@needs_compiler
def test_steps_played_again_give_what_launches_give_one_by_one(models):
    found = []
    for model in models:
        one, two = model.new_sequence(), model.new_sequence()
        model.forward([(one, list(range(1, 51)))])
        logits = steps(model, [one], 12)
        model.forward([(two, list(range(5, 12)))])
        logits += steps(model, [one, two], 6)
        fork = one.fork()
        logits += steps(model, [fork, two], 3) + steps(model, [one], 2)
        found.append(logits)
        for sequence in (one, two, fork):
            sequence.release()
    for with_graphs, plain in zip(*found, strict=True):
        np.testing.assert_array_equal(with_graphs, plain)


@pytest.mark.slow
@needs_compiler
def test_a_kind_of_step_is_recorded_once(models):
    model, _ = models
    ops, sequence = model.ops, model.new_sequence()
    model.forward([(sequence, [1] * 30)])
    steps(model, [sequence], 8)  # with and without a row that closes
    known, before = len(ops.device.graphs), ops.launcher.by_mlx
    steps(model, [sequence], 8)
    assert len(ops.device.graphs) == known and ops.launcher.by_mlx == before, (
        "nothing was recorded, nothing went to MLX"
    )
    sequence.release()


@pytest.mark.slow
@needs_compiler
def test_before_a_graph_runs_everything_that_mlx_was_given_has_ended(models):
    model, _ = models
    sequence = model.new_sequence()
    model.forward([(sequence, [1] * 10)])
    before = model.ops.settled
    steps(model, [sequence], 3)
    assert model.ops.settled == before + 1, "once after the prompt, and not between steps"
    sequence.release()


@pytest.mark.slow
@needs_compiler
def test_graphs_are_dropped_when_the_state_moves_and_the_oldest_when_there_are_too_many(models, monkeypatch):
    model, plain = models
    sequence, other = model.new_sequence(), plain.new_sequence()
    steps(model, [sequence], 2), steps(plain, [other], 2)
    pages = model.state.pages
    model.state.reserve(pages + 1, model.state.slots)
    np.testing.assert_array_equal(steps(model, [sequence], 3), steps(plain, [other], 3))
    assert model.state.pages > pages and len(model.ops.device.graphs) <= 3
    monkeypatch.setattr(replay, "MOST_GRAPHS", 1)
    model.state.reserve(model.state.pages + 1, model.state.slots)
    np.testing.assert_array_equal(steps(model, [sequence], 6), steps(plain, [other], 6))
    assert len(model.ops.device.graphs) == 1
    sequence.release(), other.release()


@pytest.mark.slow
@needs_compiler
def test_a_page_table_that_outgrows_its_room_gets_more(models, monkeypatch):
    model, plain = models
    sequence, other = model.new_sequence(), plain.new_sequence()
    monkeypatch.setattr(model.ops.replay, "_ints", 64)
    np.testing.assert_array_equal(steps(model, [sequence], 3), steps(plain, [other], 3))
    assert model.ops.replay._ints > 64
    sequence.release(), other.release()


@pytest.mark.slow
@needs_compiler
def test_closing_gives_all_memory_back(tmp_path):
    model = model_with(HostOps(G, tmp_path))
    sequence = model.new_sequence()
    steps(model, [sequence], 2)
    device, played = model.ops.device, model.ops.replay
    assert device.blocks and device.graphs
    played.close()
    played.close()
    assert not device.blocks and not device.graphs


@pytest.mark.slow
@needs_compiler
def test_an_error_while_recording_leaves_the_ops_as_they_were(models, monkeypatch):
    model, plain = models
    sequence, other = model.new_sequence(), plain.new_sequence()
    with monkeypatch.context() as patch:
        patch.setattr(model.ops.products, "one", lambda *_: 1 / 0)
        model.ops.replay._forget()
        with pytest.raises(ZeroDivisionError):
            steps(model, [sequence], 1)
    assert model.ops.launcher.tape is None and model.ops.replay.plan is None
    sequence.release()
    sequence = model.new_sequence()
    np.testing.assert_array_equal(steps(model, [sequence], 2), steps(plain, [other], 2))
    sequence.release(), other.release()


@pytest.mark.slow
@needs_compiler
def test_where_no_graph_can_be_made_decoding_goes_on_without(tmp_path, monkeypatch, caplog, models):
    model, (_, plain) = model_with(HostOps(G, tmp_path)), models
    sequence, other = model.new_sequence(), plain.new_sequence()
    model.forward([(sequence, [1] * 10)]), plain.forward([(other, [1] * 10)])

    def refuse(calls):
        raise EngineError("cuGraphInstantiateWithFlags failed on the GPU")

    monkeypatch.setattr(model.ops.device, "graph", refuse)
    np.testing.assert_array_equal(steps(model, [sequence], 3), steps(plain, [other], 3))
    assert model.ops.replay is None and "cuGraphInstantiateWithFlags failed" in caplog.text
    assert "without CUDA graphs" in caplog.text
    sequence.release(), other.release()


@pytest.mark.slow
@needs_compiler
def test_memory_that_cannot_be_had_leaves_nothing_half_given_back(tmp_path, monkeypatch):
    model = model_with(HostOps(G, tmp_path))
    sequence, device, played = model.new_sequence(), model.ops.device, model.ops.replay
    steps(model, [sequence], 1)
    with monkeypatch.context() as patch:
        patch.setattr(device, "allocate", lambda nbytes: (_ for _ in ()).throw(EngineError("out of memory")))
        with pytest.raises(EngineError, match="out of memory"):
            played._make_room(1 << 20)
    assert played._arena == played._room == 0
    played.close()
    assert not device.blocks


def test_memory_of_a_tape_is_used_again_once_nobody_reads_it():
    def made(tape, *inputs):
        return tape.ask(Kernel("b", ("x",) * len(inputs), ("y",), 32), inputs, [((100,), "float32")], (1, 1, 1))[0]

    given = Made((7,), "int32")
    tape = Tape((given,))
    a = made(tape, given)
    b = made(tape, a)
    c = made(tape, b.reshape(10, -1))
    d = made(tape, c, b)
    places, nbytes = tape.places(d)
    assert places[id(given)] == 0 and nbytes == 256 + 3 * 512
    assert len({places[id(x)] for x in (a, b)}) == 2 and places[id(c)] == places[id(a)], "a was read for the last time"
    assert places[id(d)] not in (places[id(b)], places[id(c)]), "what a launch reads it does not write"


def test_a_placeholder_changes_its_shape_as_an_array_does():
    made = Made((2, 6), "float32")
    assert made.reshape(4, -1).shape == (4, 3) and made.reshape(12).whole is made and made.nbytes == 48


def test_programs_are_kept_in_their_folder_by_text_and_target(tmp_path):
    kernel = Kernel("embed", ("step", "w"), ("out",), 32, {"N": 1, "D": 4, "FORMAT": "F16"}, ("numbers", "blocks"))
    signature = (kernel, ("int32", "uint8", "float32"))
    first, second = Names(), Names()
    assert Programs(first, tmp_path).get(signature) == kernel.name.encode()
    Programs(second, tmp_path).prepare([signature])
    assert first.compiled == [kernel.name] and not second.compiled
    other = Names()
    other.target = "another GPU"
    Programs(other, tmp_path).get(signature)
    assert other.compiled == [kernel.name]
    text = next(iter(tmp_path.glob("*.cubin")))
    assert kernel.name in text.name


@pytest.mark.skipif(find_library("cuda") is not None, reason="for machines without NVIDIA's driver")
def test_without_the_driver_kernels_go_through_mlx_and_somebody_is_told(caplog):
    launcher = make_launcher()
    assert isinstance(launcher, MlxLauncher) and launcher.language == "cuda"
    assert "driver library cannot be opened" in caplog.text


def test_programs_take_their_arrays_in_the_order_of_a_launch():
    kernel = Kernel("embed", ("step", "w"), ("out",), 32, {"N": 1, "D": 4, "FORMAT": "F16"}, ("numbers", "blocks"))
    found = programs.text(kernel, ("int32", "uint8", "float32"))
    assert f"void {kernel.name}(const int* step, const unsigned char* w, float* out) {{" in found
    assert "#include" in found and found.count("__global__") == 1
