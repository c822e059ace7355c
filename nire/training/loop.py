"""The training loop: from a network, pictures and settings to weights, with everything needed to stop at any moment.

Everything random follows from the run's seed and the number of the iteration. So a run that was stopped and resumed
sees what an uninterrupted one sees, and a batch that did harm can be made again.
"""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cv2
import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nire.errors import ConfigError, TrainingStopped, WeightsError
from nire.explicit.network import KeyPlaneNetwork
from nire.network import weights as weight_files
from nire.training import checkpoint as checkpoints
from nire.training.growing import can_grow, grow
from nire.training.losses import loss as loss_of
from nire.training.losses import psnr_of
from nire.training.pictures import Bank
from nire.training.plots import contact_sheet, loss_curve, write_png
from nire.training.progress import Reporter
from nire.training.ranks import Ranks
from nire.training.samples import Cut, Samples, Taught
from nire.training.sequences import Sequence
from nire.training.settings import OptimiserSettings, Settings

CHECKPOINT = "checkpoint.safetensors"
# Ranks draw from seeds that are this far apart.
_RANK_STRIDE = 1_000_003
_VALIDATION_SEED = 500_009


@dataclass(frozen=True, slots=True, eq=False)
class Materials:
    """What a run works with.

    Attributes:
        network: that is called by samples' `expose`.
        cut: how windows are cut for it.
        bank: pictures to train on, on the run's device.
        held_out: pictures to validate on.
        footage: sequences of sharp frames to train on, or none.
        write_weights: called with the averaged network and the number of iterations whenever weights are due.
    """

    network: nn.Module
    cut: Cut
    bank: Bank
    held_out: Bank
    write_weights: Callable[[nn.Module, int], None]
    footage: tuple[Sequence, ...] = ()


def train(
    settings: Settings,
    materials: Materials,
    out: Path,
    *,
    ranks: Ranks,
    console: Console,
    minutes: float = math.inf,
    resume: bool = False,
    changed: bool = False,
    start: Path | None = None,
) -> int:
    """Train until the settings' iterations are done, time is up, or a signal asks to stop.

    Args:
        settings: of the run.
        materials: network (moved to the ranks' device) and pictures.
        out: folder of checkpoint, weights, curves and contact sheets; made if missing.
        ranks: place of this process.
        console: where progress goes.
        minutes: most time to spend, in this call.
        resume: go on from the checkpoint in `out`.
        changed: go on although data, loss or optimiser are set otherwise than in the checkpoint.
        start: weights that a fresh run begins with; None begins untrained.

    Returns:
        Iterations done, those before a resume included.

    Raises:
        TrainingStopped: the loss is not finite; names the batch.
        ConfigError: `resume` with other settings than the checkpoint's, or a fresh run where a checkpoint lies.
        WeightsError: the checkpoint is missing, damaged, or of another network, or nothing of `start` fits.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(settings, materials, out, ranks)
    if resume:
        for table in run.resume(changed=changed):
            console.print(f"goes on with [{table}] set otherwise than before", highlight=False, markup=False)
    elif (out / CHECKPOINT).exists():
        raise ConfigError(f"{out / CHECKPOINT} exists: go on with it by --resume, or choose another --out")
    elif start is not None:
        console.print(run.start(start), highlight=False, markup=False)
    if ranks.leads:
        checkpoints.remove_leftovers(out)
    until = time.monotonic() + 60 * minutes
    with (
        _stop_on_signals() as stop,
        Reporter(
            console,
            done=run.iteration,
            total=settings.optimiser.iterations,
            every=settings.run.report_every,
            silent=not ranks.leads,
        ) as reporter,
    ):
        run.go(reporter, should_stop=lambda: stop.is_set() or time.monotonic() > until)
    return run.iteration


def learning_rate(iteration: int, settings: OptimiserSettings) -> float:
    """Rate of an iteration (from 0): linear warm-up, then half a cosine down to the final share."""
    if iteration < settings.warm_up:
        return settings.learning_rate * (iteration + 1) / settings.warm_up
    done = (iteration - settings.warm_up) / max(1, settings.iterations - settings.warm_up)
    share = settings.final_share + (1 - settings.final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return settings.learning_rate * share


class _Run:
    """State of a run between two iterations."""

    def __init__(self, settings: Settings, materials: Materials, out: Path, ranks: Ranks) -> None:
        self._settings, self._materials, self._out, self._ranks = settings, materials, out, ranks
        run = settings.run
        seed = run.seed + _RANK_STRIDE * ranks.rank
        self._samples = Samples(materials.bank, settings.data, cut=materials.cut, seed=seed, footage=materials.footage)
        self._held_out = Samples(materials.held_out, settings.data, cut=materials.cut, seed=run.seed + _VALIDATION_SEED)
        torch.manual_seed(run.seed)
        self._network = materials.network.to(ranks.device)
        # Frames are missing in some tasks, and with them the gradients of their encoder.
        self._called: Callable[..., Tensor] = self._network
        if ranks.world > 1:
            self._called = DistributedDataParallel(self._network, find_unused_parameters=True)
        if run.compile:
            # One program for each number of frames; their shapes never change.
            self._called = torch.compile(self._called, dynamic=False)
        optimiser = settings.optimiser
        self._optimiser = torch.optim.AdamW(
            self._network.parameters(), lr=optimiser.learning_rate, weight_decay=optimiser.weight_decay
        )
        self._begin_average()
        self._history: list[tuple[float, float]] = []
        self.iteration = 0

    def start(self, path: Path) -> str:
        """Begin with other weights, as far as they fit, or with those of a smaller network, grown; says how far."""
        trained, network = weight_files.load_any(path), self._network
        mine, held = network.state_dict(), trained.state_dict()
        if isinstance(trained, KeyPlaneNetwork) and isinstance(network, KeyPlaneNetwork):
            began, wanted = trained.config, network.config
            if dataclasses.replace(began, size=wanted.size) != wanted and can_grow(began, wanted):
                grow(trained, network)
                self._begin_average()
                return f"begins with {path}, of size {began.size}, grown"
        fitting = {name: held[name] for name in mine if name in held and held[name].shape == mine[name].shape}
        if not fitting:
            raise WeightsError(f"nothing in {path} fits this network: the names or shapes of all tensors differ")
        network.load_state_dict(fitting, strict=False)
        self._begin_average()
        new, unused = len(mine) - len(fitting), len(held) - len(fitting)
        return f"begins with {path}: {len(fitting)} tensors taken, {unused} not used, {new} untrained"

    def _begin_average(self) -> None:
        self._average = {name: value.detach().clone() for name, value in self._network.state_dict().items()}

    def resume(self, *, changed: bool) -> list[str]:
        """Go back to where the checkpoint was written; returns the tables that are set otherwise, if allowed."""
        state = checkpoints.load(self._out / CHECKPOINT)
        mine = dataclasses.asdict(self._settings)
        differing = [key for key in ("model", "data", "loss", "optimiser") if state.settings.get(key) != mine[key]]
        other_seed = state.settings["run"]["seed"] != mine["run"]["seed"]
        if other_seed or "model" in differing or (differing and not changed):
            raise ConfigError(
                f"{self._out / CHECKPOINT} was made with other settings ({', '.join(differing) or 'run.seed'}); "
                "resume with the same ones, allow another data, loss or optimiser by --changed, or choose another --out"
            )
        checkpoints.require_fit(state.network, self._network, self._out / CHECKPOINT)
        self._network.load_state_dict(state.network)
        self._average = {name: value.to(self._ranks.device) for name, value in state.average.items()}
        checkpoints.restore_optimiser(self._optimiser, state.optimiser)
        checkpoints.restore_random(state.random)
        self._history = [(float(a), float(b)) for a, b in state.history]
        self.iteration = state.iteration
        return differing

    def go(self, reporter: Reporter, should_stop: Callable[[], bool]) -> None:
        """Iterate; the next batch is made in another thread meanwhile."""
        run, total = self._settings.run, self._settings.optimiser.iterations
        saved = time.monotonic()
        torch.set_num_threads(run.threads or max(1, (os.cpu_count() or 2) - 1))
        cv2.setNumThreads(1)  # images are small: its threads would only take the network's cores
        # One thread per pool, and one torch thread in it: the network has the other cores.
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as maker:
            coming = maker.submit(self._samples.at, self.iteration)
            while self.iteration < total and not self._ranks.any(should_stop()):
                sample = coming.result()
                coming = maker.submit(self._samples.at, self.iteration + 1)
                loss, rate = self._step(sample)
                self._history.append((loss, rate))
                self.iteration += 1
                reporter.step(self.iteration, loss, rate)
                if self.iteration % run.validate_every == 0 or self.iteration == total:
                    self._validate(reporter)
                if self._ranks.leads and time.monotonic() - saved > 60 * run.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
            coming.cancel()
        if self._ranks.leads:
            self.save()
            self._write_weights()
            write_png(self._out / "loss.png", loss_curve(np.array(self._history).reshape(-1, 2)))
            reporter.say(f"{self.iteration} iterations done; checkpoint, weights and curve are in {self._out}")

    def save(self) -> None:
        """Write the checkpoint."""
        state = checkpoints.Checkpoint(
            network=self._network.state_dict(),
            average=self._average,
            optimiser=checkpoints.optimiser_tensors(self._optimiser),
            random=checkpoints.random_state(),
            iteration=self.iteration,
            history=torch.tensor(self._history, dtype=torch.float64).reshape(-1, 2),
            settings=dataclasses.asdict(self._settings),
        )
        checkpoints.save(state, self._out / CHECKPOINT)

    def _step(self, sample: Taught) -> tuple[float, float]:
        optimiser = self._settings.optimiser
        rate = learning_rate(self.iteration, optimiser)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._network.train()
        self._optimiser.zero_grad(set_to_none=True)
        images, wanted = self._expose(self._called, sample), self._settings.loss
        loss = loss_of(sample.judged(images), sample.target, wanted)
        if wanted.witness:
            loss = loss + wanted.witness * sample.worse(images)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), optimiser.clip_norm)
        value = loss.item()
        if norm.item() == 0:
            raise TrainingStopped(
                f"the gradient is exactly zero in iteration {self.iteration}: the network has saturated and learns "
                "nothing more; begin again with a lower optimiser.learning_rate"
            )
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            raise TrainingStopped(
                f"the loss is {value} and the gradient {norm.item()} in iteration {self.iteration}, batch "
                f"{sample.index} of seed {self._settings.run.seed} (rank {self._ranks.rank}, task {sample.task}); "
                "the last checkpoint is from before it: lower optimiser.learning_rate or switch run.bf16 off, "
                "then --resume"
            )
        self._optimiser.step()
        self._update_average()
        return value, rate

    def _expose(self, network: Callable[..., Tensor], sample: Taught) -> Tensor:
        def called(*inputs: Tensor) -> Tensor:
            with torch.autocast(self._ranks.device.type, torch.bfloat16, enabled=self._settings.run.bf16):
                return network(*inputs)

        return sample.expose(called)

    @torch.no_grad()
    def _update_average(self) -> None:
        # Young averages forget faster, so that the first weights do not linger.
        kept = min(self._settings.optimiser.ema, (1 + self.iteration) / (10 + self.iteration))
        for name, value in self._network.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - kept)
            else:
                self._average[name].copy_(value)

    @contextmanager
    def _averaged(self) -> Iterator[nn.Module]:
        """Lend the network with its averaged weights."""
        own = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        self._network.load_state_dict(self._average)
        self._network.eval()
        try:
            yield self._network
        finally:
            self._network.load_state_dict(own)
            self._network.train()

    @torch.no_grad()
    def _validate(self, reporter: Reporter) -> None:
        """Compare with held-out pictures, task by task; the same windows every time."""
        if not self._ranks.leads:
            return
        tasks = [task for task, weight in self._settings.data.tasks.items() if weight > 0]
        scores: dict[str, list[tuple[float, float]]] = {task: [] for task in tasks}
        with self._averaged() as network:
            for index in range(self._settings.run.validation_windows):
                task = tasks[index % len(tasks)]
                sample = self._held_out.at(index, task)
                image = self._expose(network, sample)
                first = sample.estimates()[:, :, :1]
                pair = (psnr_of(image, sample.target), psnr_of(first, sample.target))
                scores[task].append((pair[0].item(), pair[1].item()))
                if len(scores[task]) == 1:
                    write_png(self._out / f"validation_{task}.png", contact_sheet(sample, image))
        told = (
            f"{task} {np.mean([s[0] for s in pairs]):.2f} ({np.mean([s[1] for s in pairs]):.2f})"
            for task, pairs in scores.items()
            if pairs
        )
        reporter.say(f"validation at {self.iteration}, dB (double integral of the first frame): " + ", ".join(told))
        write_png(self._out / "loss.png", loss_curve(np.array(self._history)))
        self._write_weights()

    def _write_weights(self) -> None:
        with self._averaged() as network:
            self._materials.write_weights(network, self.iteration)


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event; a second one is obeyed at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
