"""What the divergences of language models share: bins of the teacher, a mask to count over."""

from preceptor.needs import Needs, named_masks


def bins(temperature: float, over: str, *, linear: bool = False) -> Needs:
    """Probabilities at T, of the largest classes at least, and the mask that is counted over."""
    return Needs(
        kinds=frozenset({"bins"}),
        temperatures=frozenset({temperature}),
        masks=named_masks(over),
        linear=linear,
    )
