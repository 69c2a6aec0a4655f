"""What this machine has that a build would use: device, memory, libraries, the Hub."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from unitcorpus.build.agreement import Agreement
from unitcorpus.speech.phonemes import SPACY_MODEL

GIB = 1 << 30
HUB_SECONDS = 5.0
LIBRARIES = (
    "torch",
    "torchaudio",
    "transformers",
    "kokoro",
    "misaki",
    "espeakng-loader",
    "faiss-cpu",
    "datasets",
    "huggingface-hub",
    "webdataset",
)


@dataclass(frozen=True)
class Finding:
    """`text` on the subject `what`."""

    what: str
    text: str
    missing: bool = False
    agreement: Agreement | None = None


def machine(device: str) -> Iterator[Finding]:
    """What a build on `device` would find, whatever the recipe."""
    yield from _machine(device)
    yield from _libraries()


def _machine(device: str) -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    disk = shutil.disk_usage(Path.cwd()).free / GIB
    yield Finding(
        "machine",
        f"{platform.system()} {platform.machine()}, {cores} cores, {_free_memory()}, "
        f"{disk:,.0f} GiB free on disk here",
    )
    if device.startswith("cuda"):
        index = torch.device(device)
        free, total = (size / GIB for size in torch.cuda.mem_get_info(index))
        name = torch.cuda.get_device_name(index)
        yield Finding("device", f"{device}: {name}, {free:.1f} of {total:.1f} GiB free")
    else:
        why = "" if torch.cuda.is_available() else ": torch sees no CUDA device"
        yield Finding("device", f"{device}{why}")


def _free_memory() -> str:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) / (1 << 20) for line in lines}
        return f"{sizes['MemAvailable']:.1f} of {sizes['MemTotal']:.1f} GiB of memory free"
    except (OSError, KeyError, ValueError, IndexError):
        return "memory unknown"


def _libraries() -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()}, unitcorpus {version('unitcorpus')}")
    found = {name: _version(name) for name in LIBRARIES}
    there = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    yield Finding("libraries", there)
    for name, number in found.items():
        if number is None:
            yield Finding(name, f"is not installed: pip install {name}", missing=True)
    ray = _version("ray")
    yield Finding("ray", ray or "not installed; several workers need it: 'unitcorpus[ray]'")
    model = _version(SPACY_MODEL)
    advice = "not installed; Kokoro's English goes through espeak, or misaki downloads it"
    yield Finding("spaCy", f"{SPACY_MODEL} {model}" if model else f"{SPACY_MODEL} is {advice}")
    yield Finding("Hub", hub())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def hub() -> str:
    """Whether the Hugging Face Hub answers."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "offline, as HF_HUB_OFFLINE says"
    start = time.perf_counter()
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_SECONDS).close()
    except HTTPError:
        pass  # it answers
    except OSError as error:
        reason = getattr(error, "reason", error)
        return f"{constants.ENDPOINT} cannot be reached ({reason}); what is cached can be used"
    return f"{constants.ENDPOINT} answers in {time.perf_counter() - start:.2f} s"
