r"""One step of training: by autograd, or for the papers' dense networks by hand.

The gradient of a network of two or three matrices is a page of arithmetic. Written out, it saves
what autograd spends on recording the step and on keeping a gradient as large as the network: each
matrix takes its step of Adam block by block, while the block's gradient is still in the cache.

For margins :math:`m`, labels :math:`y`, signs :math:`s = 1 - 2y` and B points the mean
cross-entropy is :math:`\frac1B \sum \operatorname{softplus}(s m)`, with the gradient
:math:`\delta = s\,\sigma(s m) / B`. For the quadratic network, :math:`m = w \|Wx\|^2 + b`,

.. math:: \nabla_W = 2 w\,(\delta \odot WX)^T X,\quad
          \nabla_w = \textstyle\sum \delta \|Wx\|^2,\quad \nabla_b = \sum \delta,

and for the ReLU network it is passed back layer by layer, through batch normalisation by torch's
own formula for it.

On a card the same arithmetic is recorded once, as a CUDA graph, and replayed: a step of these
networks is some forty small kernels, each of which takes less time than the host needs to start it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from trueboundary.classifiers import ClassifierModule, QuadraticNetwork, ReLUNetwork
from trueboundary.classifiers.integrity import departure

#: Entries of a block of a matrix whose gradient is made and used up at once: a megabyte, which
#: stays in the second cache of today's processors.
_BLOCK = 1 << 18
#: One thread records at a time: a recording begins by waiting for the whole card, which CUDA allows
#: nobody while a step is being recorded.
_RECORDING = threading.Lock()
#: Steps before a recording, in which libraries choose their kernels and load them.
_WARM_UP = 3

Optimizer = torch.optim.Adam
Update = Callable[[nn.Parameter, Tensor, Tensor], None]


class Step(Protocol):
    """Changes a model by one step of Adam on a batch."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of the batch before the step, a scalar without a gradient."""


def cross_entropy(found: Tensor, y: Tensor) -> Tensor:
    r"""Return the cross-entropy of each point, ``-log p_y`` of the class probabilities.

    It is ``softplus(-m)`` or ``softplus(m)`` of a margin m, and
    :math:`\operatorname{softplus}(\log \sum_{j \ne y} e^{f_j - f_y})` of logits f, in which
    nothing cancels however small the loss is.

    Parameters
    ----------
    found : Tensor
        `outputs` of a classifier: margins, shape ``(n,)``, or logits, shape ``(n, K)``.
    y : Tensor
        Labels 0 to K - 1, shape ``(n,)``.

    Returns
    -------
    Tensor
        Losses in nats, shape ``(n,)``; accurate and differentiable at any size of logits.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.training import cross_entropy
    >>> cross_entropy(torch.tensor([0.0, 1000.0]), torch.tensor([1, 0]))
    tensor([6.9315e-01, 1.0000e+03])
    >>> cross_entropy(torch.tensor([[0.0, 0.0, 0.0], [70.0, 0.0, 0.0]]), torch.tensor([1, 0]))
    tensor([1.0986e+00, 7.9509e-31])
    """
    if found.ndim == 1:
        return softplus((1 - 2 * y) * found)
    own = y.long()[:, None]
    # Differences first: the logits themselves may be so large that their digits are gone.
    lead = (found - found.gather(1, own)).scatter(1, own, -torch.inf)
    return softplus(lead.logsumexp(dim=1))


def is_recorded(device: torch.device) -> bool:
    """Whether steps on a device are recorded, and read all that changes from fixed places."""
    return device.type == "cuda"


def adam_of(
    parameters: Sequence[nn.Parameter], rate: float, *, betas: tuple[float, float], eps: float
) -> Optimizer:
    """Return Adam in one pass over memory, nearly twice as fast as torch's default.

    Where steps are recorded its rate is a tensor, in single precision as torch's kernel wants it.
    """
    device = parameters[0].device
    if not is_recorded(device):
        return torch.optim.Adam(parameters, lr=rate, betas=betas, eps=eps, fused=True)
    place = torch.tensor(rate, dtype=torch.float32, device=device)
    return torch.optim.Adam(parameters, lr=place, betas=betas, eps=eps, fused=True, capturable=True)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give Adam another rate, in its place where it has one."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def step_of(model: ClassifierModule, optimizer: Optimizer) -> Step:
    """Return the fastest step of the cross-entropy that is known for a model.

    Written out are the steps of `QuadraticNetwork` and `ReLUNetwork` as they were made: all
    parameters trained, no hook, no subclass, on one device, the CPU or a card, and two classes. Any
    other model takes `AutogradStep`; the losses agree to rounding.
    """
    by_hand: dict[type, Callable[..., Step]] = {
        QuadraticNetwork: QuadraticStep,
        ReLUNetwork: ReLUStep,
    }
    parameters = list(model.parameters())
    devices = {parameter.device for parameter in parameters}
    usual = (
        len(devices) == 1
        and all(device.type in ("cpu", "cuda") for device in devices)
        and all(parameter.requires_grad for parameter in parameters)
        and not any(
            module._backward_hooks or module._backward_pre_hooks for module in model.modules()
        )
    )
    if not usual or departure(model, tuple(by_hand)) is not None:
        return AutogradStep(model, optimizer)
    if isinstance(model, ReLUNetwork) and (model.n_classes > 2 or not _as_made(model)):
        return AutogradStep(model, optimizer)
    step = by_hand[type(model)](model, optimizer)
    return RecordedStep(step, model, optimizer) if is_recorded(devices.pop()) else step


class AutogradStep:
    """A step of any model, on any loss."""

    def __init__(self, model: ClassifierModule, optimizer: Optimizer) -> None:
        self._model, self._optimizer = model, optimizer

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Take a step on the mean cross-entropy."""
        return self.minimise(cross_entropy(self._model.outputs(x), y).mean())

    def minimise(self, loss: Tensor) -> Tensor:
        """Take a step on a loss that was computed with a graph."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.detach()


class RecordedStep:
    """A step on a card, recorded as a graph when first taken and replayed ever after.

    Nothing waits for the card, and the host says no more than "the next one". What a graph reads
    and writes has a fixed place: each batch is copied into that of the first, and parameters,
    buffers and Adam's moments and rate stay where they are. Every step is a replay, the first of a
    resumed run as well, so that both runs do the same arithmetic. A batch of another shape than the
    first is taken without the graph.

    Parameters
    ----------
    step : callable
        The step to record. It must ask nothing of the card, and change tensors in place alone.
    model : ClassifierModule
        What the step changes.
    optimizer : Adam
        Its optimiser, whose rate is a tensor and whose moments are there already.
    """

    def __init__(self, step: Step, model: ClassifierModule, optimizer: Optimizer) -> None:
        self._step, self._model, self._optimizer = step, model, optimizer
        self._batch: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Take a step; the loss it returns is overwritten by the next."""
        if self._batch is None:
            self._batch = x.clone(), y.clone()
            work = partial(self._step, *self._batch)
            with _RECORDING, torch.no_grad():
                self._replay, self._loss = _record(work, self._changed())
        if (x.shape, y.shape) != (self._batch[0].shape, self._batch[1].shape):
            return self._step(x, y)
        self._batch[0].copy_(x)
        self._batch[1].copy_(y)
        self._replay()
        return self._loss

    def _changed(self) -> list[Tensor]:
        """Return every tensor that a step changes."""
        moments = [t for state in self._optimizer.state.values() for t in state.values()]
        return [*self._model.state_dict().values(), *moments]


def _record(
    work: Callable[[], Tensor], changed: Sequence[Tensor]
) -> tuple[Callable[[], None], Tensor]:
    """Return what replays `work` on a card and where its output will stand.

    The runs before the recording leave no trace in the tensors that the work changes.
    """
    kept = [tensor.clone() for tensor in changed]
    with torch.cuda.device(changed[0].device):
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        main = torch.cuda.current_stream()
        aside.wait_stream(main)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                work()
            for tensor, value in zip(changed, kept, strict=True):
                tensor.copy_(value)
        main.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads may train networks of their own meanwhile; they are not watched.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            output = work()
    return graph.replay, output


class _StepByHand:
    """What steps without autograd share: the loss, and Adam.

    The CPU makes a matrix's gradient and uses it up block by block; a card, on which the whole
    network stays in the cache, updates everything in one go.
    """

    def __init__(self, model: Any, optimizer: Optimizer) -> None:
        self._model, self._optimizer = model, optimizer
        for parameter in model.parameters():
            if not optimizer.state[parameter]:
                _start_adam(optimizer.state[parameter], parameter)

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Take a step on the mean cross-entropy."""
        (group,) = self._optimizer.param_groups
        # What torch.optim.Adam calls in the end, without its sorting of tensors on every call.
        adam_step = partial(
            torch._fused_adam_,
            max_exp_avg_sqs=[],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )
        states = self._optimizer.state
        torch._foreach_add_([state["step"] for state in states.values()], 1)
        signs = (1 - 2 * y).to(x.dtype)
        signed = self._forward(x) * signs
        slope = signed.sigmoid().mul_(signs).div_(len(x))  # (n,)
        whole: list[tuple[nn.Parameter, Tensor]] = []

        def update(weight: nn.Parameter, left: Tensor, right: Tensor) -> None:
            """Take a step with the gradient ``left.T @ right`` of a matrix, block by block."""
            if is_recorded(weight.device):
                whole.append((weight, left.T @ right))
                return
            state, rows = states[weight], max(1, _BLOCK // right.shape[1])
            for start in range(0, len(weight), rows):
                part = slice(start, start + rows)
                adam_step(
                    [weight[part]],
                    [left.T[part] @ right],
                    [state["exp_avg"][part]],
                    [state["exp_avg_sq"][part]],
                    state_steps=[state["step"]],
                )

        others = self._backward(x, slope, update) + whole
        moments = [states[parameter] for parameter, _ in others]
        adam_step(
            [parameter for parameter, _ in others],
            [gradient for _, gradient in others],
            [state["exp_avg"] for state in moments],
            [state["exp_avg_sq"] for state in moments],
            state_steps=[state["step"] for state in moments],
        )
        return softplus(signed).mean()

    def _forward(self, x: Tensor) -> Tensor:
        """Return the margins ``(n,)`` and keep what the way back needs."""
        raise NotImplementedError

    def _backward(
        self, x: Tensor, slope: Tensor, update: Update
    ) -> list[tuple[nn.Parameter, Tensor]]:
        """Update every large matrix, and return the other parameters with their gradients."""
        raise NotImplementedError


class QuadraticStep(_StepByHand):
    """A step of a `QuadraticNetwork`."""

    def _forward(self, x: Tensor) -> Tensor:
        model = self._model
        self._hidden = x @ model.hidden_weight.T  # (n, width)
        self._squares = torch.linalg.vecdot(self._hidden, self._hidden)  # (n,)
        return torch.addcmul(model.bias, model.weight, self._squares)

    def _backward(
        self, x: Tensor, slope: Tensor, update: Update
    ) -> list[tuple[nn.Parameter, Tensor]]:
        model = self._model
        scaled = self._hidden.mul_((2 * model.weight * slope).unsqueeze(1))
        update(model.hidden_weight, scaled, x)
        return [(model.weight, torch.dot(slope, self._squares)), (model.bias, slope.sum())]


class ReLUStep(_StepByHand):
    """A step of a `ReLUNetwork` in train mode, of any depth and any place of its normalisation."""

    def _forward(self, x: Tensor) -> Tensor:
        model = self._model
        *hidden, readout = model.linear
        self._inputs: list[Tensor] = []  # of each matrix, (n, n_in)
        self._active: list[Tensor] = []  # what each layer's ReLU left, (n, width)
        self._normed: list[tuple[Tensor, ...]] = []
        for layer, linear in enumerate(hidden):
            self._inputs.append(x)
            x = torch.addmm(linear.bias, x, linear.weight.T)
            if model.batch_norm == "before-activation":
                x = self._normalise(layer, x)
            x = x.relu_()
            self._active.append(x)
            if model.batch_norm == "after-activation":
                x = self._normalise(layer, x)
        self._inputs.append(x)
        return torch.addmm(readout.bias, x, readout.weight.T).squeeze(1)

    def _normalise(self, layer: int, x: Tensor) -> Tensor:
        norm = self._model.norm[layer]
        norm.num_batches_tracked += 1
        # A training pass also moves the running averages, as the module itself does.
        out, mean, scale = torch.native_batch_norm(
            x,
            norm.weight,
            norm.bias,
            norm.running_mean,
            norm.running_var,
            True,
            norm.momentum,
            norm.eps,
        )
        self._normed.append((x, mean, scale))
        return out

    def _backward(
        self, x: Tensor, slope: Tensor, update: Update
    ) -> list[tuple[nn.Parameter, Tensor]]:
        model = self._model
        *hidden, readout = model.linear
        back = slope.unsqueeze(1)  # gradient of what the layer below put out, (n, n_out)
        others = [(readout.weight, back.T @ self._inputs[-1]), (readout.bias, back.sum(0))]
        back = back @ readout.weight
        for layer in reversed(range(len(hidden))):
            linear = hidden[layer]
            if model.batch_norm == "after-activation":
                back = self._through_norm(layer, back, others)
            back = torch.ops.aten.threshold_backward(back, self._active[layer], 0)
            if model.batch_norm == "before-activation":
                back = self._through_norm(layer, back, others)
            others.append((linear.bias, back.sum(0)))
            below = back @ linear.weight if layer else None  # before the step changes the weight
            update(linear.weight, back, self._inputs[layer])
            if below is not None:
                back = below
        return others

    def _through_norm(
        self, layer: int, back: Tensor, others: list[tuple[nn.Parameter, Tensor]]
    ) -> Tensor:
        norm, (x, mean, scale) = self._model.norm[layer], self._normed[layer]
        back, weight, bias = torch.ops.aten.native_batch_norm_backward(
            back,
            x,
            norm.weight,
            norm.running_mean,
            norm.running_var,
            mean,
            scale,
            True,
            norm.eps,
            [True, True, True],
        )
        others += [(norm.weight, weight), (norm.bias, bias)]
        return back


def _as_made(model: ReLUNetwork) -> bool:
    """Whether all layers are of the classes that a network is made of."""
    linear = all(type(layer) is nn.Linear and layer.bias is not None for layer in model.linear)
    return linear and all(
        type(norm) is nn.BatchNorm1d
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        for norm in model.norm
    )


def _start_adam(state: dict[str, Tensor], parameter: nn.Parameter) -> None:
    """Fill the state of a parameter as `torch.optim.Adam` does on its first step."""
    device = parameter.device if is_recorded(parameter.device) else "cpu"
    state["step"] = torch.zeros((), dtype=torch.float32, device=device)
    state["exp_avg"] = torch.zeros_like(parameter)
    state["exp_avg_sq"] = torch.zeros_like(parameter)
