"""What a run is to cover."""

from __future__ import annotations

from dataclasses import dataclass

from suite.groups import Budget


@dataclass(frozen=True)
class Plan:
    """Settings that the lists of cases are made from.

    Attributes:
        quick: small shapes and two rounds, for the checks alone.
        devices: "cpu", and "cuda" where there is one.
        threads: processors of this process.
    """

    quick: bool
    devices: tuple[str, ...]
    threads: int

    def budget(self, seconds: float, least: int = 5, slowest: float = 10.0) -> Budget:
        """A budget, or that of the quick mode."""
        return Budget(0.05, least=2, most=2, slowest=60.0) if self.quick else Budget(seconds, least, slowest=slowest)
