"""Training, as the recipe reads: data, network, optimizer, then steps until the end or a signal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from usds.model.checkpoint import Checkpoint, CheckpointStore, identity_of
from usds.model.ema import EMA
from usds.model.journal import EpochLosses, Journal, Pace, step_figures
from usds.model.network import UltrasoundCLIP
from usds.model.optim import Schedule, build_optimizer
from usds.model.plan import RunPlan, plan_run, total_steps
from usds.model.run import Run, alone, create_run
from usds.model.runtime import (
    Runtime,
    StopSignal,
    explain_memory,
    process_group,
    runtime,
    share_weights,
    wait_for_all,
)
from usds.model.settings import TrainSettings, settings_hash
from usds.model.step import Stepper, StepResult
from usds.model.stream import train_loader
from usds.model.towers import build_towers
from usds.model.train_data import TrainData, label_prior, load_train_data
from usds.model.validate import validate_run
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.udt import Taxonomy

_LEAST_STEPS: Final = 50  # between validations and checkpoints: an epoch of a small dataset is a step or two
_MOST_STEPS: Final = 1000  # between checkpoints: an epoch of a large one takes hours without a GPU

__all__ = ["Hooks", "TrainResult", "Trainer", "dry_run", "resume", "train"]


@dataclass(frozen=True)
class Hooks:
    """How a run talks to whoever started it; only the first rank does.

    Attributes
    ----------
    note : callable
        Takes a line of text.
    step : callable
        Takes a mapping: step, steps, epoch, loss, images_per_second, seconds_left.
    cache : callable
        Takes (frames resized, frames in all).
    """

    note: Callable[[str], None] = lambda _: None
    step: Callable[[dict[str, float]], None] = lambda _: None
    cache: Callable[[int, int], None] = lambda _done, _total: None


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes
    ----------
    run : Run
        Its folder.
    steps, planned : int
        Optimizer steps done, and those of the whole run.
    interrupted : bool
        A signal stopped it; ``usds train --resume`` goes on.
    first_loss, last_loss : float or None
        Mean loss of the first and last epoch of this process.
    images_per_second : float
        Over this process's steps.
    """

    run: Run
    steps: int
    planned: int
    interrupted: bool
    first_loss: float | None
    last_loss: float | None
    images_per_second: float


def train(
    dataset: Dataset,
    taxonomy: Taxonomy,
    settings: TrainSettings,
    base: Path = Path("runs"),
    *,
    hooks: Hooks | None = None,
    exact: bool = False,
) -> TrainResult:
    """Start a run.

    Parameters
    ----------
    dataset : Dataset
        Annotated and split.
    taxonomy : Taxonomy
        That of its labels.
    settings : TrainSettings
        Everything else.
    base : Path
        Folder of all runs; with ``exact`` the run folder itself.
    hooks : Hooks, optional
        Who listens.

    Raises
    ------
    ContentError, UsageError
        The data or the settings do not allow the run; nothing is overwritten.
    """
    with process_group(), explain_memory(settings.data.batch_size, settings.run.accumulate):
        return Trainer(dataset, taxonomy, settings, hooks or Hooks()).run(base, exact=exact)


def resume(dataset: Dataset, run: Run, *, hooks: Hooks | None = None) -> TrainResult:
    """Go on with a run from its last checkpoint, to the bit on a CPU.

    Raises
    ------
    ContentError
        Data, taxonomy, architecture or settings are not those of the run.
    UsageError
        The run has no checkpoint, or was imported.
    """
    settings = run.settings()
    if run.imported:
        raise UsageError(
            f"{run.folder} holds imported weights and no training to go on with: start one from them with "
            f"usds train --init {run.folder}"
        )
    label_set: str | None = run.data()["annotation_set"]
    if label_set not in dataset.annotations.names():
        raise ContentError(
            f"{run.folder} was trained on the label set {label_set}, which {dataset.root} lacks: label it "
            f"with `usds annotate --taxonomy {run.folder / 'taxonomy.yaml'} --set {label_set}`"
        )
    with process_group(), explain_memory(settings.data.batch_size, settings.run.accumulate):
        return Trainer(dataset, run.taxonomy(), settings, hooks or Hooks(), label_set).resume(run)


def dry_run(
    dataset: Dataset, taxonomy: Taxonomy, settings: TrainSettings, hooks: Hooks | None = None
) -> RunPlan:
    """What :func:`train` would do; writes nothing, the frame cache included."""
    told = hooks or Hooks()
    device = runtime(settings.run)
    with explain_memory(settings.data.batch_size, settings.run.accumulate):
        size = build_towers(settings.model.towers).spec.size
        data = load_train_data(dataset, taxonomy, settings, size, 1, note=told.note, pixels=False)
        model = UltrasoundCLIP(settings.model, taxonomy, label_prior(taxonomy, settings, data.train))
        return plan_run(model, data.train, data.plan, settings, data.manifest, half=device.bf16)


class Trainer:
    """One process of a training run.

    Parameters
    ----------
    dataset, taxonomy, settings
        As in :func:`train`.
    hooks : Hooks
        Who listens; silent on all ranks but the first.
    label_set : str, optional
        Labels to train on; default: those that the settings name.
    """

    def __init__(
        self,
        dataset: Dataset,
        taxonomy: Taxonomy,
        settings: TrainSettings,
        hooks: Hooks,
        label_set: str | None = None,
    ) -> None:
        self.settings = settings
        self.taxonomy = taxonomy
        self.device: Runtime = runtime(settings.run)
        self.hooks = hooks if self.device.first else Hooks()
        torch.manual_seed(settings.run.seed)
        size = build_towers(settings.model.towers).spec.size
        self.data: TrainData = load_train_data(
            dataset,
            taxonomy,
            settings,
            size,
            self.device.world,
            note=self.hooks.note,
            progress=self.hooks.cache,
            label_set=label_set,
        )
        self.model = self._build_model()
        self.optimizer = build_optimizer(self.model, settings.optimizer, self.device.device)
        self.steps = total_steps(self.data.plan, settings)
        self.schedule = Schedule(settings.schedule, self.steps, settings.optimizer.learning_rate)
        self.ema = EMA(self.model, settings.run.ema_decay) if settings.run.ema_decay > 0 else None
        self.stepper = Stepper(
            self.model, self.optimizer, self.schedule, ema=self.ema, settings=settings, device=self.device
        )
        self.identity = identity_of(
            self.model, settings=settings_hash(settings), data=str(self.data.manifest["hash"])
        )
        self._stop = StopSignal()

    def _build_model(self) -> UltrasoundCLIP:
        torch.manual_seed(self.settings.run.seed)
        prior = label_prior(self.taxonomy, self.settings, self.data.train)
        model = UltrasoundCLIP(self.settings.model, self.taxonomy, prior).to(self.device.device)
        share_weights(model)
        if self.settings.run.grad_checkpointing:
            model.set_grad_checkpointing()
        if self.settings.run.compile:
            model.towers.clip.visual.compile()
        return model.train()

    def run(self, base: Path, *, exact: bool = False) -> TrainResult:
        """Make the run folder, save step 0, train."""
        made: list[Any] = [None]
        if self.device.first:
            made = [create_run(base, self.settings, self.taxonomy, self.data.manifest, exact=exact)]
        if self.device.world > 1:
            torch.distributed.broadcast_object_list(made, 0)
        run: Run = made[0]
        self.hooks.note(f"run {run.folder}: {self.steps} steps on {self.device.describe()}")
        with self._alone(run):
            self._save(run, 0, {})
            return self._train(run, 0)

    def resume(self, run: Run) -> TrainResult:
        """Go on from the newest checkpoint of a run."""
        with self._alone(run):
            return self._go_on(run)

    def _go_on(self, run: Run) -> TrainResult:
        store = self._store(run)
        newest = store.latest()
        if newest is None:
            raise UsageError(f"{run.folder} has no checkpoint to resume: start a new run")
        found = store.load(newest, self.identity, resume=True)
        self.model.load_state_dict(found.model)
        self.optimizer.load_state_dict(found.state["optimizer"])
        self.stepper.bad_steps = int(found.state["bad_steps"])
        if self.ema is not None and found.ema is not None:
            self.ema.restore(
                {k: v.to(self.device.device) for k, v in found.ema.items()}, found.state["ema_steps"]
            )
        self.hooks.note(f"run {run.folder}: going on at step {found.step} of {self.steps}")
        return self._train(run, found.step)

    def _alone(self, run: Run) -> AbstractContextManager[None]:
        return alone(run.folder) if self.device.first else nullcontext()

    def _train(self, run: Run, first: int) -> TrainResult:
        pace, losses = Pace(), EpochLosses()
        spec = self.model.image_transform(True)
        stream = self.data.stream(self.model.towers, self.settings, self.device.rank, self.device.world)
        on_gpu = self.device.device.type == "cuda"
        step = first
        with ExitStack() as stack:
            stack.enter_context(self._stop.listening())
            journal = Journal(run, first) if self.device.first else None
            if journal is not None:
                stack.callback(journal.close)
            pace.begin()
            for batch in train_loader(stream, first, self.steps, self.settings.data.workers, on_gpu):
                result = self.stepper(batch.to_batch(self.device.device, spec), step, stop=self._stop.asked)
                step += 1
                epoch = (step - 1) // self.data.plan.steps
                pace.add(self.data.plan.batch_size)
                if step % self.settings.run.log_every == 0 or step in (first + 1, self.steps) or not on_gpu:
                    # Reading a figure waits for the GPU: only for steps that are logged.
                    losses.add(epoch, float(result.parts.total))
                    self._log(journal, step, epoch, result, pace)
                metrics = self._look(journal, step)
                if result.stop or self._due(step) or metrics:
                    self._save(run, step, metrics)
                if result.stop:
                    break
        return TrainResult(
            run,
            step,
            self.steps,
            step < self.steps,
            losses.first,
            losses.last,
            pace.images_per_second,
        )

    def _log(self, journal: Journal | None, step: int, epoch: int, result: StepResult, pace: Pace) -> None:
        loss = float(result.parts.total)
        if result.skipped:
            self.hooks.note(
                f"step {step}: loss {loss} or its gradient is not finite; no rank changed a weight"
            )
        if journal is None:
            return
        figures = step_figures(result, float(self.model.logit_scale.detach()), pace)
        journal.write(step, {"epoch": epoch, **figures})
        told = {"step": step, "steps": self.steps, "epoch": epoch, "loss": loss}
        left = pace.seconds_left(self.steps - step)
        self.hooks.step({**told, "images_per_second": pace.images_per_second, "seconds_left": left})

    def _look(self, journal: Journal | None, step: int) -> dict[str, float]:
        """Validate at the end of an epoch; the figures, or nothing."""
        per = self._epochs_apart() * self.settings.run.evaluate_every
        if not len(self.data.valid) or (step % per and step != self.steps):
            return {}
        found: dict[str, float] = {"score": 0.0}
        if journal is not None and self.data.cache is not None:
            with ExitStack() as stack:
                if self.ema is not None:
                    stack.enter_context(self.ema.applied(self.model))
                found = validate_run(self.model, self.data.valid, self.data.cache, self.device.device)
            journal.write(step, {f"valid/{name}": value for name, value in found.items()})
        return found

    def _epochs_apart(self) -> int:
        """Steps of as many whole epochs as make a look at the model worth its time."""
        return self.data.plan.steps * -(-_LEAST_STEPS // self.data.plan.steps)

    def _due(self, step: int) -> bool:
        every = self.settings.run.checkpoint_every or min(self._epochs_apart(), _MOST_STEPS)
        return step % every == 0 or step == self.steps

    def _store(self, run: Run) -> CheckpointStore:
        return CheckpointStore(run.checkpoints, self.settings.run.keep_last)

    def _save(self, run: Run, step: int, metrics: dict[str, float]) -> None:
        """Write a checkpoint; what dropout and the sampler do next follows from the step alone."""
        if self.device.first:
            state = {
                "optimizer": self.optimizer.state_dict(),
                "bad_steps": self.stepper.bad_steps,
                "ema_steps": self.ema.steps if self.ema is not None else 0,
                "seed": self.settings.run.seed,
                "epoch": step // self.data.plan.steps,
                "place_in_epoch": step % self.data.plan.steps,
                "rate": self.schedule.rate(step),
            }
            ema = self.ema.state_of(self.model) if self.ema is not None else None
            checkpoint = Checkpoint(step, self.model.state_dict(), ema, state, metrics)
            self._store(run).save(checkpoint, self.model, self.identity, score=metrics.get("score"))
        wait_for_all()
