"""Distillation in a training loop of your own: plain PyTorch, no recipe, no `fit`.

A small convolutional net learns scikit-learn's digits from a larger one, with 100 labels. First
with two objectives that only read logits; then with one that has a module of its own (a regressor
from the student's map to the teacher's), which your optimizer trains and your checkpoint skips.

    python examples/own_loop.py        # about ten seconds on one core
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor import KD, CrossEntropy, FitNetsOneStage, Objective

Net = nn.ModuleDict


def net(width: int) -> Net:
    body = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    return Net({"body": body, "head": nn.Linear(2 * width * 16, 10)})


def shown(model: Net, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    features = model["body"](images)
    return model["head"](features.flatten(1)), {"body": features}


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    pixels, classes = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(classes, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1297], order[1297:]
    return images[train], labels[train], images[test], labels[test]


def accuracy(model: Net, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((shown(model, images)[0].argmax(dim=-1) == labels).float().mean())


def trained_teacher(images: Tensor, labels: Tensor) -> Net:
    torch.manual_seed(0)
    teacher = net(32)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
    for _ in range(300):
        rows = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        F.cross_entropy(shown(teacher, images[rows])[0], labels[rows]).backward()
        optimizer.step()
    return teacher.eval()


def distilled(objective: Objective, teacher: Net, images: Tensor, labels: Tensor) -> Net:
    """A student trained on `labels`, which are -1 where it has none."""
    torch.manual_seed(1)
    student = net(2)
    with torch.no_grad():  # one pass of two examples tells the objective the shapes
        logits, taps = shown(student, images[:2])
        teacher_taps = shown(teacher, images[:2])[1]
    context = objective.context_on(
        student_logits=logits, student_taps=taps, teacher_taps=teacher_taps
    )
    aux = objective.auxiliary(context)
    optimizer = torch.optim.AdamW([*student.parameters(), *aux.parameters()], lr=3e-3)
    for _ in range(400):
        rows = torch.randint(len(images), (64,))
        with torch.no_grad():
            teacher_logits, teacher_taps = shown(teacher, images[rows])
        logits, taps = shown(student, images[rows])
        loss = objective.on(
            student_logits=logits,
            teacher_logits=teacher_logits,
            labels=labels[rows],
            student_taps=taps,
            teacher_taps=teacher_taps,
            aux=aux,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student.eval()


def main() -> None:
    images, labels, test_images, test_labels = digits()
    teacher = trained_teacher(images, labels)
    few = torch.where(torch.arange(len(labels)) < 100, labels, -1)
    soft = 0.1 * CrossEntropy() + 0.9 * KD(temperature=4)
    objectives = {
        "100 labels alone": CrossEntropy(),
        "and the teacher's logits": soft,
        "and its feature map": soft + FitNetsOneStage(layers=(("body", "body"),)),
    }
    print(f"{'teacher':26}{accuracy(teacher, test_images, test_labels):8.1%}")
    for name, objective in objectives.items():
        student = distilled(objective, teacher, images, few)
        print(f"{name:26}{accuracy(student, test_images, test_labels):8.1%}")


if __name__ == "__main__":
    main()
