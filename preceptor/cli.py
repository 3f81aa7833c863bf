"""The command `preceptor`: a thin shell over the verbs.

Each command imports what it needs when it is called, so that `--help` answers at once.
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preceptor.errors import PreceptorError, RecipeError

if TYPE_CHECKING:
    from preceptor.recipe.schema import Recipe

app = typer.Typer(
    name="preceptor",
    help="Knowledge distillation: train a small model from a large one, and prove what was gained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a preset.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key: --set stages.0.plan.steps=9."),
]
Seed = Annotated[int | None, typer.Option(help="The first seed: --set seed.first=...", min=0)]
Out = Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME where not given.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where in the code an error arose.")]


@app.command()
def distill(
    recipe: RecipeName,
    settings: Settings = None,
    seed: Seed = None,
    out: Out = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove an earlier run from the folder, begin anew.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Distil, and compare with a control.

    Trains the teacher, the student and the arms without a teacher, evaluates all, and writes a
    run folder with report.html. A run that was stopped goes on where it was.
    """
    with _sentences(debug):
        loaded = _recipe(recipe, settings, seed)
        from preceptor.verbs.distill import distill

        distill(loaded, out=out, fresh=fresh, show=True)


@app.command()
def check(
    recipe: RecipeName,
    settings: Settings = None,
    seed: Seed = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also run the models briefly, and plan memory and time.")
    ] = False,
    price: Annotated[
        float, typer.Option(min=0.0, help="What an hour of this machine costs, for --deep.")
    ] = 0.0,
    debug: Debug = False,
) -> None:
    """Say whether a recipe, or a ranking's, can run.

    Is it valid, and who reads what from whom?
    """
    with _sentences(debug):
        from preceptor.recipe.load import load_ranking, names_ranking

        if names_ranking(recipe):
            from preceptor.verbs.check_ranking import check_ranking

            typer.echo(check_ranking(load_ranking(recipe, settings or ()), deep=deep))
            return
        loaded = _recipe(recipe, settings, seed)
        from preceptor.verbs.check import check

        typer.echo(check(loaded, deep=deep, price=price))


@app.command()
def cache(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE|FOLDER", help="A recipe, or a cache of tokens.")
    ],
    settings: Settings = None,
    seed: Seed = None,
    out: Out = None,
    inspect: Annotated[
        bool, typer.Option("--inspect", help="Say what a cache of tokens holds; write nothing.")
    ] = False,
    top_k: Annotated[
        int,
        typer.Option(min=0, help="Write a cache of tokens anew to --out, with only so many."),
    ] = 0,
    debug: Debug = False,
) -> None:
    """Write the teacher's signals to disk once.

    Or look at a cache of tokens (--inspect), or keep less of it (--top-k K --out FOLDER).
    """
    with _sentences(debug):
        from preceptor.verbs.cache import cache, inspected, thinned

        if inspect:
            typer.echo(inspected(Path(recipe)))
        elif top_k:
            if out is None:
                raise RecipeError(
                    f"--top-k {top_k}",
                    "nothing says where the smaller cache goes",
                    "Add --out FOLDER.",
                )
            typer.echo(thinned(Path(recipe), out, top_k))
        else:
            cache(_recipe(recipe, settings, seed), out=out, show=True)


@app.command()
def rank(
    recipe: RecipeName,
    settings: Settings = None,
    students: Annotated[
        list[Path] | None,
        typer.Option(
            "--student",
            metavar="FOLDER",
            help="The student as it stood later: rank for it too. Several, in their order.",
        ),
    ] = None,
    out: Out = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove an earlier run from the folder, begin anew.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Order teachers, or temperatures of one, before any distillation.

    From the student's gradients alone: of text that teachers wrote, in files or here, or of their
    answers to images. A ranking that was stopped goes on where it was. With --student it also says
    how the order changed as a student was trained.
    """
    with _sentences(debug):
        from preceptor.recipe.load import load_ranking
        from preceptor.verbs.rank import rank

        loaded = load_ranking(recipe, settings or ())
        rank(loaded, students=students or (), out=out, fresh=fresh, show=True)


@app.command()
def study(
    recipe: RecipeName,
    settings: Settings = None,
    out: Out = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove an earlier study from the folder, begin anew.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that train side by side; 0 for one a core.")
    ] = 0,
    debug: Debug = False,
) -> None:
    """Ask when distillation helps, over a grid.

    Trains every student of the grid with and without its teachers, many small models a process,
    and sets gains beside sizes, teachers and agreement. A study that was stopped goes on where it
    was.
    """
    with _sentences(debug):
        from preceptor.recipe.load import load_study
        from preceptor.verbs.study import study

        said = load_study(recipe, settings or ())
        found = study(said, out=out, fresh=fresh, workers=workers, show=True)
    if not found.study.places:
        raise typer.Exit(1)  # Every place failed; the page says how.


@app.command()
def init(
    recipe: RecipeName,
    settings: Settings = None,
    seed: Seed = None,
    out: Out = None,
    debug: Debug = False,
) -> None:
    """Write the student as it begins inside its teacher.

    Says what was copied, projected, selected or left random, and the loss beside a random start.
    """
    with _sentences(debug):
        loaded = _recipe(recipe, settings, seed)
        from preceptor.verbs.init import init

        init(loaded, out=out, show=True)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    again: Annotated[
        bool, typer.Option("--again", help="Ask the teacher, and measure costs, once more.")
    ] = False,
    harness: Annotated[
        Path | None,
        typer.Option(
            metavar="TASK.yaml",
            help="A task of lm-evaluation-harness instead, of a run or a model's folder.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Measure a finished run again.

    Task, fidelity, calibration and cost; or a task of lm-evaluation-harness, from a local file.
    """
    with _sentences(debug):
        if harness is not None:
            from preceptor.verbs.harness import evaluate_task

            evaluate_task(run, harness, show=True)
        else:
            from preceptor.verbs.evaluate import evaluate

            evaluate(run, again=again, show=True)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="onnx|folder",
            help="ONNX, or the student's folder; folder for language models where not given.",
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Where; RUN/export where not given.")] = None,
    debug: Debug = False,
) -> None:
    """Write a run's student for use elsewhere.

    As ONNX, compared with the student on the run's own inputs and timed beside it, or as the folder
    that transformers and servers load; with a model card.
    """
    with _sentences(debug):
        from preceptor.verbs.export import export, format_of

        export(run, to=format_of(to), out=out, show=True)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs' folders.")],
    out: Annotated[
        Path | None, typer.Option(help="A folder for the comparison as HTML, Markdown and JSON.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare finished runs; those tested on the same items under the same seeds are paired."""
    with _sentences(debug):
        from preceptor.verbs.report import report

        typer.echo(report(*runs, out=out))


@app.command()
def taps(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="resnet8x4, timm:NAME, transformers:NAME, package.module:function.",
        ),
    ],
    debug: Debug = False,
) -> None:
    """List a model's modules with shapes.

    These are the names that an objective can read.
    """
    with _sentences(debug):
        from preceptor.recipe.load import model_of
        from preceptor.verbs.taps import taps

        typer.echo(taps(model_of(model)))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)
    ] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"preceptor {installed('preceptor')}")
        raise typer.Exit


@contextmanager
def _sentences(debug: bool) -> Iterator[None]:
    """Turns every error into one sentence and an exit code; with `debug`, a traceback first."""
    try:
        yield
    except KeyboardInterrupt:
        _fail("Stopped. The same command goes on from what it has.", 130, debug)
    except PreceptorError as error:
        _fail(str(error), error.exit_code, debug)
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough.
        sys.stderr.close()
        raise typer.Exit(1) from None
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        what = f"{type(error).__name__}: {first}" if first else type(error).__name__
        hint = "" if debug else " Run the same command with --debug to see where."
        _fail(f"Something unforeseen happened ({what}).{hint}", 1, debug)


def _fail(sentence: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    typer.echo(f"preceptor: {sentence}", err=True)
    raise typer.Exit(code)


def _recipe(source: str, settings: list[str] | None, seed: int | None) -> "Recipe":
    from preceptor.recipe.load import load_recipe

    first = () if seed is None else (f"seed.first={seed}",)
    return load_recipe(source, (*(settings or ()), *first))


def main() -> None:
    """The console script."""
    app()
