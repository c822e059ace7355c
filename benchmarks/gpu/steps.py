"""The steps in order of worth: what each needs, and its share of the time."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from nire.install import pip_install

NUMPY, TORCH, TRITON = "numpy", "torch", "triton"
_OF_TRAINING = ("cv2", "skimage", "safetensors", "rich")
_PACKAGES = {"cv2": "opencv-python-headless", "skimage": "scikit-image", "torch_tensorrt": "torch-tensorrt"}


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: as reports and `--only` have it.
        module: file beside this one with `cases(arguments)` and `run(case, arguments)`.
        share: of the whole time; what earlier steps have left over is added.
        needs: modules that must be there.
        argument: for the module, e.g. the name of an engine.
    """

    name: str
    module: str
    share: float
    needs: tuple[str, ...] = (NUMPY, TORCH)
    argument: str = ""

    def missing(self) -> str:
        """Say what to install before this step can run; "" where all is there."""
        absent = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if not absent:
            return ""
        packages = " ".join(_PACKAGES.get(name, name) for name in absent)
        command = pip_install("tensorrt") if "torch_tensorrt" in absent else f"pip install {packages}"
        return f"needs {', '.join(absent)}: {command}"


STEPS = (
    Step("device", "device", 0.04, needs=()),
    Step("correct", "correct", 0.14),
    Step("eager", "engines", 0.12, argument="eager"),
    Step("cudagraph", "engines", 0.08, argument="cudagraph"),
    Step("tensorrt", "engines", 0.08, argument="tensorrt", needs=(NUMPY, TORCH, "torch_tensorrt")),
    Step("compiled", "engines", 0.12, argument="compiled"),
    Step("physics", "physics", 0.05),
    Step("training", "training", 0.37, needs=(NUMPY, TORCH, *_OF_TRAINING)),
)
