"""Device, ranks and precision of a training process."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from usds.model.settings import RunSettings
from usds.schemas.errors import UsageError

__all__ = ["Runtime", "StopSignal", "explain_memory", "process_group", "runtime"]

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Runtime:
    """Where and how this process computes.

    Attributes
    ----------
    device : torch.device
        GPU of the local rank, or the CPU.
    rank, world : int
        Place among the processes that torchrun started; 0 of 1 without it.
    bf16 : bool
        Whether the towers run in bfloat16; loss, normalisation and labels stay in fp32.
    """

    device: torch.device
    rank: int
    world: int
    bf16: bool

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for the towers."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def seed_step(self, seed: int, *place: int) -> None:
        """Seed dropout as a function of the place in the run, so that resuming needs no saved state."""
        text = "/".join(str(part) for part in (seed, self.rank, *place))
        torch.manual_seed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1)

    def describe(self) -> str:
        """In words, for the first line of a run."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "the CPU"
        ranks = f", {self.world} ranks" if self.world > 1 else ""
        return f"{name}{ranks}, {'bf16' if self.bf16 else 'fp32'}"


@contextmanager
def process_group() -> Generator[None]:
    """Join the group of ranks when torchrun started this process; leave it afterwards."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Ranks wait while the first one builds the frame cache.
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(hours=6))
    try:
        yield
    finally:
        dist.destroy_process_group()


def runtime(settings: RunSettings) -> Runtime:
    """The device and ranks of this process.

    Raises
    ------
    UsageError
        bf16 is asked for on a GPU that has none.
    """
    joined = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.set_float32_matmul_precision("high")
    able = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if settings.precision == "bf16" and device.type == "cuda" and not able:
        raise UsageError("this GPU has no bfloat16: set run.precision to fp32")
    return Runtime(
        device, rank, world, settings.precision == "bf16" or (settings.precision == "auto" and able)
    )


def average_gradients(parameters: Iterable[nn.Parameter], world: int) -> None:
    """Mean gradient over the ranks, in one flat message per data type.

    The ranks exchange gradients after the whole backward pass instead of inside it: the gradient cache runs
    several backward passes a step, and a step without labels leaves parameters of the graph without gradient.
    """
    if world == 1:
        return
    held = [p for p in parameters if p.requires_grad]
    for parameter in held:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in held if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= world
    at = 0
    for gradient in gradients:
        gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
        at += gradient.numel()


def agree(flags: Tensor) -> Tensor:
    """Largest value of each flag over the ranks: what one rank saw, all act on."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return flags


def share_weights(model: nn.Module) -> None:
    """Give every rank the weights of the first."""
    if dist.is_available() and dist.is_initialized():
        for value in model.state_dict().values():
            dist.broadcast(value, 0)


def wait_for_all() -> None:
    """Return when every rank is here."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


class StopSignal:
    """Whether SIGTERM or Ctrl-C asked the run to end after the current step; a second Ctrl-C ends it at once.

    Attributes
    ----------
    asked : bool
        Set by the first signal.
    """

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    @contextmanager
    def listening(self) -> Generator[None]:
        """Catch the signals inside the block; elsewhere than in the main thread the caller handles them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def explain_memory(batch: int, accumulate: int) -> Generator[None]:
    """Turn an allocation failure into a message that names the settings.

    Raises
    ------
    UsageError
        Memory ran out inside the block.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        short = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
            words in str(error).lower() for words in _NO_MEMORY
        )
        if not short:
            raise
        raise UsageError(
            f"out of memory at batch size {batch} in {accumulate} chunk(s): raise run.accumulate to "
            f"{accumulate * 2} (same batch, same gradient), set run.grad_checkpointing to true, lower "
            f"data.batch_size to {max(2, batch // 2)}, or take smaller towers (--preset small, "
            "model.towers.name); `usds train --dry-run` estimates what a run needs"
        ) from error
