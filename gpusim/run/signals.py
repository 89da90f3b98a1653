"""Being asked to stop, or to save."""

import signal
import threading

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Signals noted for the loop to see: those that stop, of which the second stops at once, and
    SIGUSR1, which asks for a checkpoint."""

    caught = 0  # the signal that stops, at this process
    agreed = 0  # the same at any process of the run, as far as they have agreed
    save = False  # has a checkpoint been asked for? The loop sets it back

    def __enter__(self) -> "Interruption":
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            for number in (*STOP, signal.SIGUSR1):
                handler = signal.getsignal(number)
                if number == signal.SIGHUP and handler is signal.SIG_IGN:
                    continue  # nohup: the terminal may go
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if number == signal.SIGUSR1:
            self.save = True
        elif self.caught:
            raise KeyboardInterrupt
        else:
            self.caught = number
