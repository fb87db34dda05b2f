"""The training loop."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trueboundary.classifiers import ClassifierModule, evaluated, number_of_classes, outputs
from trueboundary.problems.seeding import block_generator
from trueboundary.problems.streams import Stream
from trueboundary.progress_bars import Bar, shown_progress
from trueboundary.training.adversaries import Adversary
from trueboundary.training.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from trueboundary.training.steps import AutogradStep, adam_of, set_rate, step_of
from trueboundary.training.training_config import Array, TrainingConfig, TrainingResult

_LOG = logging.getLogger(__name__)

Snapshot = Callable[[int, ClassifierModule], Mapping[str, Any] | None]


class Loss(Protocol):
    """What to minimise instead of the cross-entropy."""

    def __call__(
        self, model: ClassifierModule, x: Tensor, y: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return the mean loss of a batch, a scalar."""

    def describe(self) -> str:
        """Return in one line what determines the loss."""


def train(
    model: ClassifierModule,
    stream: Stream,
    config: TrainingConfig,
    *,
    checkpoint: Path | None = None,
    on_snapshot: Snapshot | None = None,
    until: Callable[[ClassifierModule], bool] | None = None,
    progress: bool | Callable[[int], None] | None = None,
    adversary: Adversary | None = None,
    loss: Loss | None = None,
) -> TrainingResult:
    """Train a classifier in place.

    A run that was killed and is called again with the same arguments continues from its last
    checkpoint and ends with the same parameters, bit for bit, as one that was never interrupted
    (on the same machine, with the same number of threads). The checkpoint replaces the parameters
    that `model` comes with.

    It trains where the parameters are. On a CUDA device, a stream made with that ``device`` draws
    there: other points of the same distribution than on the CPU. Steps of `QuadraticNetwork` and
    `ReLUNetwork` are recorded as a graph there and replayed; the host waits for the card once in
    ``config.log_every`` steps, to see that the loss is finite, and at snapshots and checkpoints.
    Several networks train at once in threads of their own, each within
    ``torch.cuda.stream(torch.cuda.Stream())``.

    Parameters
    ----------
    model : ClassifierModule
        The classifier; its parameters change, its train or eval mode is the same afterwards.
    stream : Stream
        Source of the batches, such as `OnlineStream` or `FiniteSample`.
    config : TrainingConfig
        Number of steps, rate, snapshots and so on.
    checkpoint : Path, optional
        File to keep the state of the run in, and to resume from if it exists.
    on_snapshot : callable, optional
        ``on_snapshot(step, model)``, called at each of ``config.snapshots`` with the model in eval
        mode. The numbers and arrays of a mapping that it returns are kept in the result, and in
        the checkpoint, so that a resumed run still has them.
    until : callable, optional
        ``until(model)``, asked at each of ``config.snapshots``; the run ends when it says True.
    progress : bool or callable, optional
        True for a bar on standard error, or ``progress(n_completed_steps)``, called after each
        step.
    adversary : Adversary, optional
        Replaces each batch by harder points.
    loss : Loss, optional
        What to minimise instead of the mean `cross_entropy`, such as `TRADES`. It is called with
        the model in train mode.

    Returns
    -------
    TrainingResult
        Losses, snapshots and step counts.

    Raises
    ------
    ValueError
        If the checkpoint belongs to another run, or the model has outputs for another number of
        classes than the stream.
    FloatingPointError
        If the loss is no longer finite.

    Warns
    -----
    CheckpointWarning
        If the checkpoint is damaged; training then starts again.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import QuadraticNetwork
    >>> from trueboundary.problems import ConcentricSpheres, OnlineStream
    >>> from trueboundary.training import TrainingConfig, train
    >>> network = QuadraticNetwork(2, 8, generator=torch.Generator().manual_seed(0))
    >>> stream = OnlineStream(ConcentricSpheres(dim=2), batch_size=50, seed=0)
    >>> result = train(network, stream, TrainingConfig(n_steps=500, learning_rate=1e-2))
    >>> network.ellipsoid().is_perfect()
    True
    """
    _check_classes(model, stream)
    was_training = model.training
    model.train()
    try:
        with shown_progress(progress, partial(_on_bar, config.n_steps)) as say:
            run = _Run(model, stream, config, adversary, loss)
            resumed_from = run.resume(checkpoint) if checkpoint is not None else 0
            if resumed_from:
                _LOG.info("training goes on from step %d of %s", resumed_from, checkpoint)
            every = config.checkpoint_every or config.n_steps
            if run.step == 0:
                run.take_snapshot(on_snapshot, until)
            while not run.is_finished:
                run.advance()
                run.take_snapshot(on_snapshot, until)
                if checkpoint is not None and (run.step % every == 0 or run.is_finished):
                    write_checkpoint(checkpoint, run.checkpoint())
                say(run.step)
            return run.result(resumed_from)
    finally:
        model.train(was_training)


def _on_bar(n_steps: int, bar: Bar) -> Callable[[int], None]:
    return lambda n_done: bar.update(n_done / n_steps, "training")


def _check_classes(model: ClassifierModule, stream: Stream) -> None:
    """Raise where the classes of a model and of a stream are known and differ in number."""
    wanted = getattr(stream, "n_classes", None)  # a stream of somebody else need not say it
    if wanted is None:
        return
    n = model.n_classes
    if n is None:
        with evaluated(model), torch.no_grad():
            n = number_of_classes(outputs(model, stream.batch(0)[0][:1]))
    if n != wanted:
        raise ValueError(
            f"this {type(model).__name__} tells {n} classes apart, but the points it is to be "
            f"trained on have {wanted}; it needs as many logits (n_classes={wanted} of ours)."
        )


class _Run:
    """The state of a training run between two steps."""

    def __init__(
        self,
        model: ClassifierModule,
        stream: Stream,
        config: TrainingConfig,
        adversary: Adversary | None,
        loss: Loss | None,
    ) -> None:
        self.model, self.stream, self.config = model, stream, config
        self.adversary, self.loss = adversary, loss
        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError(f"this {type(model).__name__} has no parameters to train.")
        self.device = parameters[0].device
        self.optimizer = adam_of(
            parameters, config.learning_rate, betas=config.betas, eps=config.adam_eps
        )
        self.take_step = step_of(model, self.optimizer)
        self.step = 0
        self.stopped_early = False
        self.log_steps: list[int] = []
        self.log_losses: list[float] = []
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.snapshots: dict[int, dict[str, Array]] = {}

    @property
    def is_finished(self) -> bool:
        return self.stopped_early or self.step >= self.config.n_steps

    def advance(self) -> None:
        """Take one step of Adam."""
        x, y = self.stream.batch(self.step)
        if self.adversary is not None:
            x, y = self.adversary(self.model, x, y, generator=self._generator("adversary"))
        set_rate(self.optimizer, self.config.rate_at(self.step))
        if self.loss is None:
            value = self.take_step(x, y)
        else:
            loss = self.loss(self.model, x, y, generator=self._generator("loss"))
            value = AutogradStep(self.model, self.optimizer).minimise(loss)
        self.loss_sum += value
        self.step += 1
        # The one place where a step waits for the device.
        if self.step % self.config.log_every == 0 or self.step == self.config.n_steps:
            self._log()

    def _generator(self, purpose: str) -> torch.Generator:
        """Return the generator of this step: a resumed run draws what an unbroken one draws."""
        return block_generator(self.stream.seed, self.step, purpose=purpose, device=self.device)

    def _log(self) -> None:
        start = self.log_steps[-1] if self.log_steps else 0
        mean = self.loss_sum.item() / (self.step - start)
        if not np.isfinite(mean):
            raise FloatingPointError(
                f"the training loss became {mean} between steps {start} and {self.step}; "
                "try a smaller learning_rate."
            )
        self.log_steps.append(self.step)
        self.log_losses.append(mean)
        self.loss_sum.zero_()

    def take_snapshot(
        self, on_snapshot: Snapshot | None, until: Callable[[ClassifierModule], bool] | None
    ) -> None:
        """Call the user's functions if a snapshot is due."""
        if self.step not in self.config.snapshots:
            return
        self.model.eval()
        try:
            if on_snapshot is not None:
                values = on_snapshot(self.step, self.model)
                if values:
                    self.snapshots[self.step] = {k: _numeric(k, v) for k, v in values.items()}
            if until is not None:
                self.stopped_early = until(self.model)
        finally:
            self.model.train()
            self.take_step = step_of(self.model, self.optimizer)  # whatever was hung on the model

    def result(self, resumed_from: int) -> TrainingResult:
        return TrainingResult(
            steps=np.array(self.log_steps, dtype=np.int64),
            losses=np.array(self.log_losses, dtype=np.float64),
            n_steps=self.step,
            resumed_from=resumed_from,
            snapshots=dict(sorted(self.snapshots.items())),
            stopped_early=self.stopped_early,
        )

    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint must share with this run to continue it."""
        config = dataclasses.asdict(self.config)
        del config["checkpoint_every"]
        config["snapshots"], config["betas"] = list(config["snapshots"]), list(config["betas"])
        identity = {
            "config": config,
            "stream": self.stream.describe(),
            "adversary": None if self.adversary is None else self.adversary.describe(),
            "model": {
                "class": type(self.model).__name__,
                "shapes": {k: list(v.shape) for k, v in self.model.state_dict().items()},
            },
        }
        if self.loss is not None:
            identity["loss"] = self.loss.describe()
        return identity

    def checkpoint(self) -> Checkpoint:
        arrays = {f"model/{k}": _to_numpy(v) for k, v in self.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            arrays |= {f"adam/{index}/{k}": _to_numpy(v) for k, v in state.items()}
        for step, values in self.snapshots.items():
            arrays |= {f"snapshot/{step}/{k}": v for k, v in values.items()}
        arrays["log/steps"] = np.array(self.log_steps, dtype=np.int64)
        arrays["log/losses"] = np.array(self.log_losses, dtype=np.float64)
        arrays["log/loss_sum"] = _to_numpy(self.loss_sum)
        progress = {"step": self.step, "stopped_early": self.stopped_early}
        return Checkpoint(self.identity(), progress, arrays)

    def resume(self, path: Path) -> int:
        """Load the checkpoint at `path`, if there is a usable one; return its step or 0."""
        saved = read_checkpoint(path)
        if saved is None:
            return 0
        identity = self.identity()
        if saved.run != identity:
            keys = identity.keys() | saved.run.keys()
            differing = sorted(k for k in keys if saved.run.get(k) != identity.get(k))
            raise ValueError(
                f"the checkpoint {path} belongs to another run (its {', '.join(differing)} "
                "differs); give another path, or delete the file to start again."
            )
        tensors = _by_prefix(saved.arrays)
        self.model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors["model"].items()})
        state: dict[int, dict[str, Tensor]] = {}
        (group,) = self.optimizer.param_groups
        parameters = [p.detach() for p in group["params"]]
        for name, array in tensors.get("adam", {}).items():
            index, key = name.split("/", 1)
            # In the layout of the parameter: the fused step walks through both memories alike.
            like = torch.zeros(()) if key == "step" else parameters[int(index)]
            state.setdefault(int(index), {})[key] = torch.empty_like(like).copy_(
                torch.from_numpy(array)
            )
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        for name, array in tensors.get("snapshot", {}).items():
            step, key = name.split("/", 1)
            self.snapshots.setdefault(int(step), {})[key] = array
        self.log_steps = tensors["log"]["steps"].tolist()
        self.log_losses = tensors["log"]["losses"].tolist()
        self.loss_sum += torch.from_numpy(tensors["log"]["loss_sum"]).to(self.device)
        self.step = int(saved.progress["step"])
        self.stopped_early = bool(saved.progress["stopped_early"])
        return self.step


def _to_numpy(tensor: Tensor) -> Array:
    # The copy matters: the run goes on and changes the tensor in place.
    return tensor.detach().cpu().numpy().copy()


def _numeric(name: str, value: Any) -> Array:
    array = np.array(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"a snapshot may hold real numbers and arrays of them, but its {name!r} is "
            f"{type(value).__name__}."
        )
    return array


def _by_prefix(arrays: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Group ``{"model/a": ...}`` into ``{"model": {"a": ...}}``."""
    grouped: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        prefix, rest = name.split("/", 1)
        grouped.setdefault(prefix, {})[rest] = array
    return grouped
