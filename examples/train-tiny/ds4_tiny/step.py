"""One training step: forward and backward, the mean over all GPUs, the optimiser, the router's balance.

On a GPU, forward with backward is recorded once for each row length as a CUDA graph, and the optimiser as another; the
exchange between GPUs happens in between, outside of both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ds4_tiny.batches import ANSWER, PROMPT
from ds4_tiny.crew import Crew
from ds4_tiny.muon import Optimizer
from ds4_tiny.network import SAMPLED, Network, Sight
from ds4_tiny.shape import Shape
from ds4_tiny.weights import Weights

BALANCE_RATE = 0.002
"""How far a router's bias moves in a step."""
PROMPT_SHARE = 0.5
"""What all tokens of prompts may count for beside all tokens of answers: in a long document these are few."""
AHEAD = 3
"""Steps that may wait for the GPU."""
WARM_UPS = 3
"""Runs before a graph is recorded, which compile and allocate."""


class Trainer:
    """A network in training."""

    def __init__(self, shape: Shape, weights: Weights, crew: Crew, *, compiled: bool, graphs: bool) -> None:
        torch.set_float32_matmul_precision("high")
        if compiled:
            from torch import _dynamo as dynamo

            dynamo.config.recompile_limit = 128
            dynamo.config.accumulated_recompile_limit = 1024
            dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
        self.crew, self.graphs = crew, graphs and crew.device.type == "cuda"
        self.network = Network(shape, {name: w.to(crew.device) for name, w in weights.items()}, compiled=compiled)
        trained = self.network.trained
        self.optimizer = Optimizer(shape, trained)
        self.scored = list(range(shape.hashed, shape.layers))
        extra = 3 + len(self.scored) * shape.experts  # loss, divergence, share of right tokens; loads
        self.flat = torch.zeros(sum(p.numel() for p in trained.values()) + extra, device=crew.device)
        *pieces, self.measured = self.flat.split([*(p.numel() for p in trained.values()), extra])
        self.gradients = {name: piece.view_as(p) for (name, p), piece in zip(trained.items(), pieces, strict=True)}
        self.prompt_weight = torch.zeros((), device=crew.device)
        self._recorded: dict[tuple[int, Sight], tuple[Callable[[], None], Tensor, Tensor, Tensor]] = {}
        self._update: Callable[[], None] = self._apply
        self._pool = None
        self._turn = 0
        self._ends: list[torch.cuda.Event] = []

    def prepare(self, rows: dict[int, int], seen: list[tuple[int, Sight]]) -> None:
        """Compile and record everything before the clock runs: steps of these lengths and sights, `rows` rows each.

        It leaves weights and optimiser moved; `restore` puts them right.
        """
        if not self.graphs:
            return
        self.optimizer.rate.zero_()
        self.optimizer.matrix_rate.zero_()
        for length, sight in seen:
            ids = np.random.default_rng(length).integers(0, self.network.shape.vocab, (rows[length], length + 1))
            run = self._ready(ids.astype(np.uint16), np.full(ids.shape, ANSWER, np.uint8), sight)
            run()
            self.crew.average(self.flat)
            if self._update == self._apply:
                self._update = self._record(self._apply)

    def train(
        self, ids: NDArray[np.uint16], kinds: NDArray[np.uint8], *, sight: Sight = "chosen", rate: float,
        matrix_rate: float, prompt_weight: float,
    ) -> None:  # fmt: skip
        """One step on rows of ids [B, S + 1] of these kinds; `sight` is what attention sees of the CSA rows."""
        self.prompt_weight.fill_(prompt_weight)
        self.optimizer.rate.fill_(rate)
        self.optimizer.matrix_rate.fill_(matrix_rate)
        self._ready(ids, kinds, sight)()
        self.crew.average(self.flat)
        self._update()
        self._keep_pace()

    def _ready(self, ids: NDArray[np.uint16], kinds: NDArray[np.uint8], sight: Sight) -> Callable[[], None]:
        """The step for rows of this length, its inputs in place."""
        length = ids.shape[1] - 1
        self._turn = (self._turn + 3) % SAMPLED
        inputs = (torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(kinds),
                  torch.arange(self._turn, length, SAMPLED))  # fmt: skip
        key = (length, sight)
        if key not in self._recorded:
            held = tuple(value.to(self.crew.device) for value in inputs)
            self._recorded[key] = (self._record(lambda: self._differentiate(*held, sight)), *held)
        run, *places = self._recorded[key]
        for place, value in zip(places, inputs, strict=True):
            place.copy_(value.pin_memory() if self.crew.device.type == "cuda" else value, non_blocking=True)
        return run

    def state(self) -> dict[str, Tensor]:
        """Weights and the optimiser's memory by name: the live tensors."""
        out = {f"weights {name}": weight.detach() for name, weight in self.network.weights.items()}
        return out | {f"optimizer {name}": value for name, value in self.optimizer.state().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave, in place: recorded graphs keep their tensors. Weights alone will do."""
        with torch.no_grad():
            for name, value in self.state().items():
                if name in state:
                    value.copy_(state[name])
                elif name.startswith("optimizer"):
                    value.zero_()
                else:
                    raise KeyError(f"the saved state has no {name}: it is of another network")

    def _keep_pace(self) -> None:
        """Let the CPU be a few steps ahead of the GPU, no more: the clock that it reads decides the rates."""
        if self.crew.device.type != "cuda":
            return
        self._ends.append(torch.cuda.Event())
        self._ends[-1].record()
        if len(self._ends) > AHEAD:
            self._ends.pop(0).synchronize()

    def report(self) -> str:
        """The last step's figures; waits for the GPU."""
        loss, divergence, right, *loads = self.measured.tolist()
        per_layer = np.array(loads).reshape(len(self.scored), -1)
        worst = float((per_layer.max(1) / per_layer.mean(1)).max())
        return (f"loss {loss:.4f} right {right:.4f} indexer {divergence:.4f} gradient {float(self.optimizer.size):.2f} "
                f"load {worst:.2f}")  # fmt: skip

    def _differentiate(self, ids: Tensor, kinds: Tensor, sample: Tensor, sight: Sight) -> None:
        """Gradients and figures of a batch, into `flat`."""
        device = self.crew.device.type
        targets, kind = ids[:, 1:].reshape(-1), kinds[:, 1:].reshape(-1)
        own, given = kind == ANSWER, kind == PROMPT
        bound = PROMPT_SHARE * own.sum() / given.sum().clamp_min(1)
        weights = own.float() + given.float() * torch.minimum(self.prompt_weight, bound)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda", cache_enabled=False):
            result = self.network.forward(ids[:, :-1], sight=sight, sample=sample)
            loss, right = self.network.loss(result, targets, weights)
        names = list(self.gradients)
        found = torch.autograd.grad(loss + result.divergence, list(self.network.trained.values()), allow_unused=True)
        with torch.no_grad():
            for name, gradient in zip(names, found, strict=True):
                if gradient is None:
                    self.gradients[name].zero_()
                else:
                    self.gradients[name].copy_(gradient)
            share = (right & own).sum() / own.sum().clamp_min(1)
            self.measured.copy_(torch.cat([
                torch.stack([loss.detach(), result.divergence.detach(), share]), *(result.loads[i] for i in self.scored)
            ]))  # fmt: skip

    @torch.no_grad()
    def _apply(self) -> None:
        """The optimiser's step, and biases towards experts that got too little."""
        self.optimizer.step(self.gradients)
        loads = self.measured[3:].view(len(self.scored), -1)
        for layer, load in zip(self.scored, loads, strict=True):
            bias = self.network.weights[f"model.layers.{layer}.mlp.gate.e_score_correction_bias"]
            bias.add_(BALANCE_RATE * torch.sign(load.mean() - load))

    def _record(self, work: Callable[[], None]) -> Callable[[], None]:
        """The work as a CUDA graph, or as it is where graphs are off or recording fails."""
        if not self.graphs:
            return work
        try:
            return self._captured(work)
        except RuntimeError as error:
            print(f"no CUDA graph, going on without: {error}", flush=True)
            self.graphs = False
            torch.cuda.synchronize()
            return work

    def _captured(self, work: Callable[[], None]) -> Callable[[], None]:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        self._pool = self._pool or graph.pool()
        return graph.replay
