"""How much faster than a real cluster the fake one waits."""

from dataclasses import dataclass


@dataclass
class Pace:
    """Divides the waits that only cost time; how long an app has to end stays as it is."""

    haste: float = 20

    def seconds(self, of_real: float) -> float:
        return of_real / self.haste
