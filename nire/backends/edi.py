"""Event-based double integral: sharp, fast, explainable; the classical method that needs no weights."""

from __future__ import annotations

from nire.backends import prepare_torch
from nire.integral.reconstructor import IntegralReconstructor, threads_for
from nire.types import ContentWindow, Geometry


class EdiReconstructor(IntegralReconstructor):
    """Re-exposure by `nire.integral.double_integral`."""

    name = "edi"

    def sibling(self) -> EdiReconstructor:
        """Make another one for the same sensor; there is nothing to share."""
        return EdiReconstructor(self._geometry, self._device, self._bin_us)

    @property
    def works_beside(self) -> bool:
        """On a CPU; a GPU does one window after the other."""
        return self._device.type == "cpu"

    def beside(self) -> EdiReconstructor:
        """Make another one for other windows of the same stream."""
        return self.sibling()

    def expect(self, window: ContentWindow) -> None:
        """Nothing: no window goes on from another one."""


def create(geometry: Geometry, device: str = "cpu", *, bin_us: int = 500, threads: int = 0) -> EdiReconstructor:
    """Make the backend.

    Args:
        geometry: of the sensor.
        device: "auto", "cpu" or "cuda:N".
        bin_us: width of the event bins.
        threads: CPU threads; 0 = as many as the image is worth.

    Raises:
        ConfigError: the device is not there.
    """
    return EdiReconstructor(geometry, prepare_torch(device, threads or threads_for(geometry)), bin_us)
