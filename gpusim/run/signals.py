"""Being asked to stop."""

import signal
import threading


class Interruption:
    """SIGINT and SIGTERM, noted for the loop to see; the second one stops at once."""

    caught = 0  # the signal

    def __enter__(self) -> "Interruption":
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if self.caught:
            raise KeyboardInterrupt
        self.caught = number
