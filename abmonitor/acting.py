"""Acting: orders in the outbox are carried out, and what came of them is written into the book."""

from collections.abc import Callable, Mapping

from abmonitor.books import Books
from alerts.book import Book
from alerts.courier import Answer, Courier
from alerts.deliberate import Deliberation, Outcome
from alerts.machine import Accepted, Failed, Happening, ReadBack
from alerts.order import Order, Receipt
from alerts.outbox import Fate, fate, is_open
from alerts.standing import ACTING, Standing
from metrics.snapshot import Snapshot


class Acting:
    """Carries out what was decided about all experiments that this monitor leads."""

    def __init__(
        self,
        books: Books,
        courier: Courier,
        deliberations: Mapping[str, Deliberation],
        clock: Callable[[], int],
        *,
        observes_traffic: bool,
    ) -> None:
        self._books, self._courier, self._deliberations = books, courier, deliberations
        self._clock, self._observes_traffic = clock, observes_traffic
        self._empty: set[str] = set()
        """Experiments whose outbox is known to be empty."""
        self._versions: dict[str, int] = {}
        """Of the books, when their outboxes were last asked for."""

    async def dispatch(self, name: str, snapshot: Snapshot) -> None:
        """Carry out what is in the outbox of an experiment, and write down what became of it.

        Raises StaleBookError where somebody else has changed the book; nothing is lost then.
        """
        if not self._books.leads(name):
            self._empty.discard(name)  # whoever leads meanwhile may order something
            self._courier.leave(name)
            return
        if not self._may_hold(name):
            return
        orders = await self._books.store.outbox(name)
        fates = {order.id: self._fate(order, self._books.known[name]) for order in orders}
        due = [order for order in orders if fates[order.id] is Fate.CARRY_OUT]
        answers = await self._courier.carry_out(due)
        taken = [order for order in orders if order.id not in answers and self._is_taken(order)]
        answers |= await self._courier.read_back(taken)
        settled = 0
        for order in orders:
            settled += await self._settle(order, answers.get(order.id), snapshot)
        if settled == len(orders):
            self._empty.add(name)

    def _may_hold(self, name: str) -> bool:
        """Whether the outbox may hold orders."""
        book = self._books.known[name]
        older = book.version < self._versions.get(name, 0)  # the store was set back
        if older or any(map(is_open, book.standings.values())):
            self._empty.discard(name)
        self._versions[name] = book.version
        return name not in self._empty

    async def _settle(self, order: Order, answer: Answer | None, snapshot: Snapshot) -> bool:
        """Write down what an actuator said; whether nothing is left to be done about the order."""
        name = order.experiment
        outcome = Outcome(self._books.known[name])
        if answer is not None:
            happening = self._happening(order, answer)
            outcome = self._deliberations[name].apply(outcome, order.treatment, happening, snapshot)
        settled = self._fate(order, outcome.book) is Fate.SETTLED
        if settled or outcome.book != self._books.known[name]:
            await self._books.save(name, outcome, (order.id,) if settled else ())
        if settled:
            self._courier.forget(order.id)
        return settled

    def _is_taken(self, order: Order) -> bool:
        """Whether an actuator has taken the order, and it is not known yet that it took effect."""
        standing = self._books.known[order.experiment].standings.get(order.treatment, Standing())
        current = standing.decision == order.id and standing.state in ACTING
        return current and standing.acted_at is not None

    def _happening(self, order: Order, answer: Answer) -> Happening:
        """What an actuator's answer means to the treatment."""
        at = max(self._clock(), order.decided_at)
        if not isinstance(answer, Receipt):
            return ReadBack(at, answer)
        if answer.accepted:
            return Accepted(at, observable=self._observes_traffic)
        return Failed(at, answer.detail)

    def _fate(self, order: Order, book: Book) -> Fate:
        return fate(order, book.standings.get(order.treatment, Standing()))
