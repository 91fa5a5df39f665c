"""Telling: notifications hear of every view, and how far they got is kept where the next monitor finds it."""

from dataclasses import dataclass, field

from abmonitor.notify import Notifications
from abmonitor.view import View
from alerts.store import AlertStore


@dataclass(slots=True)
class Telling:
    """Follows the views of a monitor."""

    notifications: Notifications
    store: AlertStore
    _kept: dict[str, str] = field(default_factory=dict)
    """The cursors as they are stored, of experiments that this monitor leads."""

    async def follow(self, view: View) -> None:
        """Tell everybody of `view`. Raises what the store raises; then nobody is told twice for it."""
        begun = [name for name in view.leads if name not in self._kept]
        for name in begun:
            self._kept[name] = await self.store.told(name)
        for name in self._kept.keys() - view.leads:
            del self._kept[name]
        self.notifications.tell(view, cursors={n: at for n, at in self._kept.items() if at})
        for name, cursor in self.notifications.cursors().items():
            if self._kept.get(name) not in (None, cursor):
                await self.store.note_told(name, cursor)
                self._kept[name] = cursor
