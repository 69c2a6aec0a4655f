"""Where kokoro's modules look beyond an item's end, and what to run there instead.

The package's code is written for a batch of one. In a padded batch its own forward is exact but at
the sites below. Invariant: with all of them replaced, what lies past an item's end may be anything
finite and never reaches the item; with one left out, it does. Modules and parameters stay those of
the package; only within `replaced` do they run something else.

Every tensor from the frames on has `rate * frames + extra` steps, of one rate and one extra for all
items, so a padded size alone tells each item's real steps, whatever the rates of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from unitcorpus.channels_last import convolve, is_arranged
from unitcorpus.speech.kokoro_kernels import PLAIN, Kernels, full_precision

if TYPE_CHECKING:
    import torch

SITES = frozenset(
    {
        "durations",  # predictor.lstm also reads from the end: packed
        "prosody",  # predictor.shared, likewise
        "statistics",  # AdaIN's mean and variance over time: of the real steps
        "shift",  # AdaIN's shift refills the padding, and convolutions follow: zeroed
        "pool",  # so does the bias of a block's transposed convolution: zeroed
        "upsampling",  # into the generator's transposed convolutions: zeroed
        "spectrum",  # into the convolution that makes the spectrum: zeroed
        "stft",  # reflects the source at its end: item by item
        "istft",  # overlaps, and divides by an envelope that falls at the end: item by item
    }
)

Function = Callable[..., Any]


class Site(NamedTuple):
    """A method of the package, `owner.method`, and the `function` to run in its place."""

    name: str
    owner: Any
    method: str
    function: Function


@contextmanager
def replaced(sites: Iterable[Site], without: frozenset[str] = frozenset()) -> Iterator[None]:
    """Within, the `sites` run their functions, but for those named in `without`."""
    chosen = [site for site in sites if site.name not in without]
    for site in chosen:
        setattr(site.owner, site.method, site.function)
    try:
        yield
    finally:
        for site in chosen:
            delattr(site.owner, site.method)


class Ends:
    """Where the items of a padded batch end. `real` are their lengths, in frames."""

    def __init__(self, real: Sequence[int], like: torch.Tensor) -> None:
        self.real = list(real)
        self._padded = len(set(self.real)) > 1
        self.dtype, self._device = like.dtype, like.device
        self._masks: dict[int, torch.Tensor] = {}

    def steps(self, size: int) -> list[int]:
        """The real steps of each item, in a tensor of `size` padded ones."""
        rate, extra = divmod(size, max(self.real))
        return [rate * length + extra for length in self.real]

    def mask(self, size: int) -> torch.Tensor:
        """1 where a step is real, 0 in the padding: [items, 1, size], of the model's dtype."""
        import torch

        if size not in self._masks:
            steps = torch.tensor(self.steps(size), device=self._device)
            mask = torch.arange(size, device=self._device) < steps[:, None]
            self._masks[size] = mask[:, None].to(self.dtype)
        return self._masks[size]

    def padding(self, size: int) -> torch.Tensor | None:
        """`mask`, or None where no item has any padding."""
        return self.mask(size) if self._padded else None

    def zero(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [items, channels, steps] with its padding zeroed, in place."""
        return x.mul_(self.mask(x.shape[-1])) if self._padded else x


def prosody_sites(predictor: Any, ends: Ends, without: frozenset[str]) -> Iterator[Site]:
    """The sites of `predictor.F0Ntrain`."""
    yield packed("prosody", predictor.shared, ends.real)
    yield from _block_sites(predictor, ends, PLAIN, without)


def decoder_sites(
    decoder: Any, ends: Ends, kernels: Kernels, without: frozenset[str]
) -> Iterator[Site]:
    """The sites of `decoder.forward`, but for the noise that it draws."""
    generator = decoder.generator
    yield from _block_sites(decoder, ends, kernels, without)
    for upsampling in generator.ups:
        yield _zero_before("upsampling", upsampling, ends)
    for module in generator.modules():
        if is_arranged(module) and module is not generator.conv_post:
            yield Site("layout", module, "forward", partial(convolve, module))
    spectrum = partial(_spectrum, generator.conv_post.forward, ends)
    yield Site("spectrum", generator.conv_post, "forward", spectrum)
    for name, method in (("stft", "transform"), ("istft", "inverse")):
        own = getattr(generator.stft, method)
        yield Site(name, generator.stft, method, partial(_item_by_item, own, ends))
    if kernels.half is not None:
        own = generator.forward
        yield Site("half", generator, "forward", partial(_in_half, own, kernels.half))


def packed(name: str, lstm: Any, lengths: list[int]) -> Site:
    """`lstm` for sequences [items, steps, channels] of these lengths, each read from its own end.

    Raises RuntimeError for a length of 0.
    """
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, None]:
        sequences = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(own(sequences)[0], batch_first=True)[0], None

    own = lstm.forward
    return Site(name, lstm, "forward", forward)


def padded(items: Sequence[torch.Tensor]) -> torch.Tensor:
    """Items [..., steps] that differ in steps alone, as a batch [items, ..., steps]: zeros last."""
    from torch.nn.utils.rnn import pad_sequence

    return pad_sequence([item.movedim(-1, 0) for item in items], batch_first=True).movedim(1, -1)


def _block_sites(
    part: Any, ends: Ends, kernels: Kernels, without: frozenset[str]
) -> Iterator[Site]:
    """The sites of the residual blocks of predictor or decoder."""
    from kokoro.istftnet import AdaIN1d, AdainResBlk1d, AdaINResBlock1

    for module in part.modules():
        if isinstance(module, AdaIN1d):
            yield Site("adain", module, "forward", partial(_adain, module, ends, kernels, without))
        elif isinstance(module, AdaINResBlock1):
            yield Site("in place", module, "forward", partial(_residual, module, kernels.snake))
        elif isinstance(module, AdainResBlk1d) and module.upsample_type != "none":
            yield _zero_after("pool", module.pool, ends)


def _zero_after(name: str, module: Any, ends: Ends) -> Site:
    own = module.forward
    return Site(name, module, "forward", lambda x: ends.zero(own(x)))


def _zero_before(name: str, module: Any, ends: Ends) -> Site:
    own = module.forward
    return Site(name, module, "forward", lambda x: own(ends.zero(x)))


def _spectrum(own: Function, ends: Ends, x: torch.Tensor) -> torch.Tensor:
    """Logarithms of magnitudes and angles, of more precision than the rest may have."""
    with full_precision(x):
        spectrum: torch.Tensor = own(ends.zero(x).to(ends.dtype))
    return spectrum


def _in_half(own: Function, half: torch.dtype, x: torch.Tensor, *others: torch.Tensor) -> Any:
    import torch

    with torch.autocast(x.device.type, half):
        return own(x, *others)


def _item_by_item(own: Function, ends: Ends, *inputs: torch.Tensor) -> Any:
    """`own` on the real steps of each item; what it returns, as a batch padded with zeros."""
    steps = ends.steps(inputs[0].shape[-1])
    with full_precision(inputs[0]):
        outputs = [own(*(x[i : i + 1, ..., :n] for x in inputs)) for i, n in enumerate(steps)]
    if isinstance(outputs[0], tuple):
        return tuple(padded([item[0] for item in each]) for each in zip(*outputs, strict=True))
    return padded([item[0] for item in outputs])


def _adain(
    module: Any,
    ends: Ends,
    kernels: Kernels,
    without: frozenset[str],
    x: torch.Tensor,
    style: torch.Tensor,
) -> torch.Tensor:
    every, shifts = "statistics" in without, "shift" in without
    real = None if every else ends.padding(x.shape[-1])
    gamma, beta = module.fc(style)[:, :, None].chunk(2, dim=1)
    affine = module.norm.weight[:, None], module.norm.bias[:, None]
    out = kernels.adain(x, real, (gamma, beta), affine, module.norm.eps, shifts)
    return ends.zero(out) if every and not shifts else out


def _residual(block: Any, snake: Function, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """The generator's residual block, for speed alone: the package's sum, computed in place."""
    for i in range(len(block.convs1)):
        y = block.convs1[i](snake(block.adain1[i](x, style), block.alpha1[i]))
        y = block.convs2[i](snake(block.adain2[i](y, style), block.alpha2[i]))
        x = y.add_(x)
    return x
