"""What is compared in the reproduction: teachers, students, and every size. All chosen beforehand.

Choices were made on a pilot: validation problems, seed 100 and later, teachers that are not below.
"""

from dataclasses import dataclass, replace

from grace_models import Training

HOUSE = 0.8
"""The temperature that teachers write at where none is said; the paper's default."""


@dataclass(frozen=True)
class Teacher:
    """Who writes, and how.

    Args:
        name: what to call it.
        style: of the workings that it learned from, a name of `grace_problems.STYLES`.
        width: of its two layers, a Llama's.
        steps: how long it was trained.
        wrong: the share of the workings it learned from that hold a mistake.
        temperature: that it writes at.
    """

    name: str
    style: str
    width: int
    steps: int = 600
    wrong: float = 0.0
    temperature: float = HOUSE

    @property
    def trained_as(self) -> str:
        """The same for two temperatures of one teacher."""
        return self.name.partition("@")[0]

    def at(self, temperature: float) -> "Teacher":
        """The same teacher at another temperature."""
        if temperature == self.temperature:
            return self
        return replace(self, name=f"{self.trained_as}@{temperature:g}", temperature=temperature)


@dataclass(frozen=True)
class Setting:
    """Everything that decides a result.

    Args:
        teachers: those that are compared, one student each.
        heated: names of those that also write at the other `temperatures`.
        base: how everybody is trained on general text before anything else.
        teaching: how teachers are trained on worked problems, but for their steps.
        taught: how every teacher's student is trained.
        temperatures: of the second experiment.
        architectures: the students'.
        width: the students'.
        solved: worked problems that teachers learn from.
        prompts: problems that teachers answer, none of the former.
        each: answers to a prompt; all of them are trained on.
        scored: answers to a prompt that the scores read.
        dimension: numbers a sketch.
        general: pieces of general text.
        problems: test problems.
        samples: answers a test problem, at temperature 1.
    """

    teachers: tuple[Teacher, ...]
    heated: tuple[str, ...]
    base: Training
    teaching: Training
    taught: Training
    temperatures: tuple[float, ...] = (0.3, 0.6, 0.8, 1.0, 1.4)
    architectures: tuple[str, ...] = ("llama", "olmo2")
    width: int = 48
    solved: int = 4000
    prompts: int = 512
    each: int = 8
    scored: int = 4
    dimension: int = 192
    general: int = 20_000
    problems: int = 300
    samples: int = 4

    @property
    def settings(self) -> tuple[Teacher, ...]:
        """The teachers that are compared, then the other temperatures, each once."""
        known = {teacher.name: teacher for teacher in self.teachers}
        for name in self.heated:
            for temperature in self.temperatures:
                heated = known[name].at(temperature)
                known.setdefault(heated.name, heated)
        return tuple(known.values())


TEACHERS = (
    Teacher("steps-16", "steps", 16, 300),
    Teacher("steps-24", "steps", 24),
    Teacher("steps-32", "steps", 32),
    Teacher("steps-64", "steps", 64),
    Teacher("steps-64@1.4", "steps", 64, temperature=1.4),
    Teacher("steps-64-wrong-20", "steps", 64, wrong=0.2),
    Teacher("steps-64-wrong-60", "steps", 64, wrong=0.6),
    Teacher("chatty-24", "chatty", 24),
    Teacher("chatty-64", "chatty", 64),
    Teacher("chatty-64-wrong-30", "chatty", 64, wrong=0.3),
    Teacher("brief-32", "brief", 32),
    Teacher("brief-64", "brief", 64),
    Teacher("restated-32", "restated", 32),
    Teacher("restated-64", "restated", 64),
    Teacher("counted-32", "counted", 32),
    Teacher("counted-64", "counted", 64),
    Teacher("regrouped-64", "regrouped", 64),
    Teacher("explained-64", "explained", 64, 1500),
    Teacher("answer-64", "answer", 64, 2000),
)

FULL = Setting(
    TEACHERS,
    heated=("steps-32", "chatty-64", "restated-64"),
    base=Training(2000, 32, 3e-3),
    teaching=Training(600, 32, 3e-3),
    taught=Training(150, 32, 3e-3),
)

QUICK = Setting(
    (
        Teacher("steps-24", "steps", 24, 120),
        Teacher("brief-24", "brief", 24, 120),
        Teacher("brief-24-wrong-50", "brief", 24, 120, wrong=0.5),
        Teacher("answer-24", "answer", 24, 120),
    ),
    heated=("brief-24",),
    base=Training(60, 16, 3e-3),
    teaching=Training(120, 16, 3e-3),
    taught=Training(60, 16, 3e-3),
    temperatures=(0.8, 1.4),
    width=24,
    solved=500,
    prompts=64,
    each=4,
    dimension=24,
    general=1000,
    problems=50,
    samples=4,
)
