"""Everything that one stage of training consists of, put together and ready to run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from preceptor.data.source import Source
from preceptor.errors import ModelError, NeedsError, RecipeError
from preceptor.models.lora import fixed_names
from preceptor.models.pairing import pair_layers
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Choice, Layers, Objective, Sum
from preceptor.teachers.adapter_base import AdapterBase
from preceptor.teachers.base import Teacher
from preceptor.train.member import Member, make_auxiliary
from preceptor.train.optimizers import (
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    trainable,
)
from preceptor.train.plan import Plan
from preceptor.train.processes import make_accelerator
from preceptor.train.sharding import Sharded, part_of, require_sharding, whole
from preceptor.train.update import Balance
from preceptor.types import Context, Outputs, Progress, Signal

_UNCHANGED = {DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU}
"""Ways of running in which Accelerate's optimizer does what the bare one does."""

CALIBRATION = 32
"""Examples on which layers that see alike are found."""


@final
@dataclass
class Trainee:
    """One member of the cohort: the bare module, its wrapped twin, and what moves it.

    `mover` is `optimizer`, or the bare one inside it where Accelerate adds nothing: it looks for
    optional packages on the disk in every step, which costs a small student a twentieth of it.
    """

    member: Member
    wrapped: nn.Module
    optimizer: Any
    mover: Any
    names: dict[str, nn.Parameter]
    shared: int
    balance: Balance
    average: dict[str, Tensor]
    sharded: Sharded | None = None

    def kept(self) -> dict[str, Tensor]:
        """What a checkpoint holds of the member: all of it, or a base's adapters alone."""
        fixed = {f"student.module.{name}" for name in fixed_names(self.member.student.module)}
        state = self.member.state_dict()
        return {name: tensor for name, tensor in state.items() if name not in fixed}


@final
class Training:
    """One stage: members, teacher, objective, source and plan, and how far it has come.

    Args:
        students: one model, or a cohort whose members teach each other.
        teacher: whoever answers.
        objective: what is minimised; `layers: auto` is settled here, once.
        source: where batches come from; its cursor moves.
        plan: how long and how.
        accelerator: Hugging Face Accelerate's; one is made where none is given.
        seed: of the auxiliary modules' first values.
        aux: one `nn.ModuleList` a member, to go on with an earlier stage's auxiliary modules.
    """

    def __init__(
        self,
        students: TappedModel | Sequence[TappedModel],
        teacher: Teacher,
        objective: Objective[Any],
        source: Source,
        plan: Plan,
        *,
        accelerator: Accelerator | None = None,
        seed: int = 0,
        aux: Sequence[nn.ModuleList] = (),
    ) -> None:
        cohort = [students] if isinstance(students, TappedModel) else list(students)
        self.accelerator = accelerator or make_accelerator(plan, len(cohort))
        self.source, self.plan, self.step = source, plan, 0
        self.steps = plan.steps or plan.epochs * source.steps_per_epoch
        self.accumulate = plan.accumulate
        self.notices: list[str] = []
        self.seconds = 0.0
        self.objective = settled(objective, cohort, teacher, source)
        needs = self.objective.needs()
        require(self.objective, teacher, self.accumulate)
        require_two_models(cohort, teacher)
        require_sharding(
            plan,
            self.objective,
            processes=self.accelerator.num_processes,
            launched=self.accelerator.distributed_type,
            members=len(cohort),
            learns=moves(teacher),
        )
        self.teacher = teacher.reading(needs.teacher_taps).to(self.accelerator.device)
        self.sharded_teachers = [
            Sharded(model)
            for model in fixed_models(self.teacher)
            if plan.sharded and isinstance(model, TappedModel) and model.causal
        ]
        self.trainees = [
            self._trainee(student.reading(needs.student_taps), seed + index, aux[index : index + 1])
            for index, student in enumerate(cohort)
        ]

    def _trainee(self, student: TappedModel, seed: int, kept: Sequence[nn.ModuleList]) -> Trainee:
        student.to(self.accelerator.device)
        context = self.context(student)
        aux = kept[0] if kept else make_auxiliary(self.objective, context, seed)
        member = Member(student, aux).train()
        own = trainable(student.module, self.plan.trainable)
        for name, parameter in student.module.named_parameters():
            parameter.requires_grad_(name in own)
        sharded = Sharded(student) if self.plan.sharded else None
        own = {n: p for n, p in student.module.named_parameters() if n in own}
        extra = dict(aux.named_parameters())
        names = {f"student.{n}": p for n, p in own.items()}
        names |= {f"aux.{n}": p for n, p in extra.items()}
        optimizer = make_optimizer(self.plan.optimizer, own, extra)
        if sharded is None:
            wrapped, prepared = self.accelerator.prepare(member, optimizer)
        else:
            # Mixed precision alone: what is spread already needs no wrapper that reduces.
            wrapped = self.accelerator.prepare_model(member, evaluation_mode=True)
            prepared = cast("Any", self.accelerator.prepare_optimizer(optimizer))
        bare = self.accelerator.scaler is None and self.accelerator.distributed_type in _UNCHANGED
        mover = prepared.optimizer if bare else prepared
        average = {}
        if self.plan.ema:
            fixed = fixed_names(student.module)
            held = {n: t for n, t in student.module.state_dict().items() if n not in fixed}
            average = {n: t.detach().clone() for n, t in held.items()}
        return Trainee(
            member, wrapped, prepared, mover, names, len(own), Balance(), average, sharded
        )

    def context(self, student: TappedModel) -> Context:
        """One dry pass over two examples; it moves no buffer and draws no random number."""
        batch = self.source.sample(2).to(self.accelerator.device)
        mode = student.training
        student.eval()
        with torch.no_grad():
            outputs = student(batch.inputs)
            signal = self.teacher.signal(batch) if self.needs_dry_signal() else None
        student.train(mode)
        self._check_classes(student, outputs)
        return Context(
            student=outputs,
            teacher=signal or Signal(),
            num_classes=self.source.num_classes,
            num_examples=self.source.num_examples,
            labels=self.source.labels.to(self.accelerator.device),
            parameters=dict(student.module.named_parameters()),
        )

    def _check_classes(self, student: TappedModel, outputs: Outputs) -> None:
        classes = outputs.shape[-1]
        if classes != self.source.num_classes:
            raise ModelError(
                f"the student {type(student.module).__name__} has {classes} classes",
                f"the data has {self.source.num_classes}",
                "Give it as many, or use the data it was made for.",
            )

    def needs_dry_signal(self) -> bool:
        """Whether auxiliary modules take their shapes from the teacher's taps or classifier."""
        needs = self.objective.needs()
        return bool(needs.teacher_taps) or needs.teacher_head

    def progress(self) -> Progress:
        """How far this stage is."""
        return Progress(self.step, self.steps, self.step / self.source.steps_per_epoch)

    def students(self) -> list[TappedModel]:
        """The cohort as it is now, averaged where the plan says so, auxiliary parts grafted on."""
        students = []
        for trainee in self.trainees:
            student = trainee.member.student
            if trainee.average:
                student.module.load_state_dict(trainee.average, strict=False)
            if trainee.sharded is not None:
                student = trainee.sharded.gathered()
            for module in trainee.member.aux:
                graft = getattr(module, "graft", None)
                student = graft(student) if callable(graft) else student
            students.append(cast("TappedModel", student))
        return students

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that a resumed run needs, by name."""
        tensors = {f"teacher.{name}": tensor for name, tensor in self.teacher.state().items()}
        for index, trainee in enumerate(self.trainees):
            named = trainee.kept()
            named |= {f"average.{n}": t for n, t in trainee.average.items()}
            slots = optimizer_state(trainee.optimizer.optimizer, trainee.names)
            named |= {f"optimizer.{n}": t for n, t in slots.items()}
            tensors |= {f"member.{index}.{n}": whole(tensor) for n, tensor in named.items()}
        return tensors

    def numbers(self) -> dict[str, Any]:
        """Everything else that a resumed run needs, as JSON."""
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "accumulate": self.accumulate,
            "notices": self.notices,
            "seconds": self.seconds,
            "source": self.source.state(),
            "balance": [trainee.balance.state() for trainee in self.trainees],
            "scaler": scaler.state_dict() if scaler is not None else {},
        }

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Takes back what `tensors` and `numbers` gave."""
        for index, trainee in enumerate(self.trainees):
            own = _under(tensors, f"member.{index}.")
            slots, average = _under(own, "optimizer."), _under(own, "average.")
            kept = trainee.kept()
            state = {name: part_of(own[name], tensor) for name, tensor in kept.items()}
            trainee.member.load_state_dict(
                state, strict=len(state) == len(trainee.member.state_dict())
            )
            load_optimizer_state(trainee.optimizer.optimizer, trainee.names, slots)
            held = trainee.average
            trainee.average = {n: part_of(t, held[n]).clone() for n, t in average.items()}
            trainee.balance = Balance(**numbers["balance"][index])
        if teacher := _under(tensors, "teacher."):
            self.teacher.load_state(teacher)
        self.source.load_state(numbers["source"])
        self.step, self.accumulate = numbers["step"], numbers["accumulate"]
        self.notices, self.seconds = list(numbers["notices"]), numbers["seconds"]
        if self.accelerator.scaler is not None and numbers["scaler"]:
            self.accelerator.scaler.load_state_dict(numbers["scaler"])


def settled(
    objective: Objective[Any], cohort: Sequence[TappedModel], teacher: Teacher, source: Source
) -> Sum:
    """The objective as a sum, with every `layers: auto` replaced by names."""

    def pairs(choice: Choice) -> Layers:
        shown = getattr(teacher, "model", None)
        other = shown if isinstance(shown, TappedModel) else cohort[0]
        count = min(CALIBRATION, source.num_examples) if choice.pairing == "similar" else 2
        sample = source.sample(max(2, count))
        return pair_layers(cohort[0], other, sample.inputs, **vars(choice))

    parts = Sum(objective.parts())
    return parts.settled(pairs)


def require(objective: Sum, teacher: Teacher, accumulate: int) -> None:
    """Refuse, in words and before any training, what this teacher or plan cannot give."""
    offers = teacher.offers()
    for part in objective.members:
        needs = part.needs()
        unmet = needs.unmet_by(offers)
        if unmet:
            raise NeedsError(
                f"{part.name} with the teacher {type(teacher).__name__}",
                "; ".join(unmet),
                "Use a live teacher, or another objective.",
            )
        if needs.scope == "batch" and accumulate > 1:
            raise RecipeError(
                f"{part.name} with accumulate: {accumulate}",
                "it compares the examples of a batch with one another, so the batch stays whole",
                "Set accumulate to 1, with a smaller batch if memory is short.",
            )


def moves(teacher: Teacher) -> bool:
    """Whether a teacher changes as the student learns; an ensemble does where a member does."""
    members = getattr(teacher, "members", ())
    return any(map(moves, members)) if members else type(teacher).learn is not Teacher.learn


def require_two_models(cohort: Sequence[TappedModel], teacher: Teacher) -> None:
    """Refuse a teacher that shares its weights with a student: there would be nothing to learn."""
    own = {id(parameter) for student in cohort for parameter in student.parameters()}
    for model in fixed_models(teacher):
        shared = [name for name, parameter in model.named_parameters() if id(parameter) in own]
        if shared:
            raise ModelError(
                f"the teacher's {shared[0]} is the student's own",
                "a student that is its own teacher, moving as it moves, learns nothing from it",
                "Give the teacher a model of its own (copy.deepcopy makes one), or use EMA.",
            )


def fixed_models(teacher: Teacher) -> list[nn.Module]:
    """The modules among a teacher's parts, members of an ensemble included.

    The base of a student with adapters is the student's own, and stands still because the
    adapters alone are trained.
    """
    if isinstance(teacher, AdapterBase):
        return []
    found = [value for value in vars(teacher).values() if isinstance(value, nn.Module)]
    for member in vars(teacher).get("members", ()):
        if isinstance(member, Teacher):
            found += fixed_models(member)
    return found


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
