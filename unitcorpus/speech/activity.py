"""Where somebody speaks: silero-vad's network on a whole stretch of audio at once.

The package runs it on one window of 32 ms after another, at about 100 times real time. Only its
recurrent cell needs that order: here everything before and after the cell goes over all windows of
a stretch together. Invariant: the probabilities are the package's own, to a few of float32's last
bits, and depend on the recording alone, not on what else is heard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

RATE = 16_000
"""Hz, of what is heard."""

WINDOW = 512
"""Samples that are judged at a time."""

CONTEXT = 64
"""Samples that the network sees before a window."""

_HOP, _BINS, _WIDTH = 128, 129, 128
_STRIDES = (1, 2, 2, 1)


class SpeechDetector:
    """The network with its weights, which ship in the package, on the CPU."""

    def __init__(self) -> None:
        import torch

        threads = torch.get_num_threads()
        import silero_vad

        torch.set_num_threads(threads)  # importing the package sets one
        model: Any = silero_vad.load_silero_vad()  # its .safetensors holds other weights
        weights = {**model._model.state_dict(), **dict(model._model.named_buffers())}
        self._fourier = weights["stft.forward_basis_buffer"]
        self._convolutions = [
            (*(weights[f"encoder.{n}.reparam_conv.{part}"] for part in ("weight", "bias")), stride)
            for n, stride in enumerate(_STRIDES)
        ]
        self._cell = torch.nn.LSTM(_WIDTH, _WIDTH)
        self._cell.load_state_dict(
            {
                f"{name}_l0": weights[f"decoder.rnn.{name}"]
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
        )
        last = weights["decoder.decoder.2.weight"], weights["decoder.decoder.2.bias"]
        self._last = last[0].view(1, _WIDTH), last[1]

    def listen(self) -> Listener:
        """A listener for one recording."""
        return Listener(self)

    def probabilities(
        self, windows: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Of speech, float32 [n], in windows [n, CONTEXT + WINDOW] that follow each other, and the
        cell's state after them."""
        import torch
        from torch.nn import functional

        x = functional.pad(windows, (0, CONTEXT), "reflect")[:, None]
        waves = functional.conv1d(x, self._fourier, stride=_HOP)
        x = (waves[:, :_BINS].square() + waves[:, _BINS:].square()).sqrt()
        for weight, bias, stride in self._convolutions:
            x = functional.conv1d(x, weight, bias, stride, padding=1).relu()
        x, state = self._cell(x.view(-1, 1, _WIDTH), state)
        chances = torch.sigmoid(functional.linear(x.relu(), *self._last))
        return chances.view(-1), state


class Listener:
    """Hears one recording, piece after piece, in `samples` samples so far."""

    def __init__(self, detector: SpeechDetector) -> None:
        import torch

        self._detector = detector
        self._state = torch.zeros(1, 1, _WIDTH), torch.zeros(1, 1, _WIDTH)
        self._rest = torch.zeros(CONTEXT)
        self.samples = 0

    def hear(self, wave: torch.Tensor) -> list[float]:
        """The probability of speech in each window that is full now; `wave` [samples] at RATE."""
        import torch

        self.samples += len(wave)
        heard = torch.cat([self._rest, wave])
        whole = (len(heard) - CONTEXT) // WINDOW
        if not whole:
            self._rest = heard
            return []
        self._rest = heard[whole * WINDOW :]
        return self._judge(heard[: CONTEXT + whole * WINDOW])

    def end(self) -> list[float]:
        """That of the last window, filled with silence; none where it is empty."""
        import torch

        rest, self._rest = self._rest, self._rest[:CONTEXT]
        if len(rest) == CONTEXT:
            return []
        return self._judge(torch.nn.functional.pad(rest, (0, CONTEXT + WINDOW - len(rest))))

    def _judge(self, heard: torch.Tensor) -> list[float]:
        import torch

        with torch.inference_mode():
            windows = heard.unfold(0, CONTEXT + WINDOW, WINDOW)
            chances, self._state = self._detector.probabilities(windows, self._state)
        found: list[float] = chances.tolist()
        return found
