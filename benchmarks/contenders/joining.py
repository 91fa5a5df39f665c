"""The join that the other frameworks are asked for: two dictionaries and a table of counts, in memory."""


class Join:
    """Joins predictions and outcomes by id in whatever order they come; the first of each id counts.

    Nothing expires, nothing is stored, and what is late is not told: the least that gives right counts.
    """

    def __init__(self):
        self.events = 0
        self._cells = {}
        """By id: the table of the prediction's variant and its decision, or None once it is labelled."""
        self._early = {}
        """By id: outcomes that came first."""
        self._tables = {}
        """By (experiment, variant): predictions, then counts by decision * 2 + truth."""

    def prediction(self, identifier, experiment, variant, predicted):
        """Take a prediction."""
        self.events += 1
        cells = self._cells
        if identifier in cells:
            return
        key = experiment, variant
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = [0, 0, 0, 0, 0]
        table[0] += 1
        if identifier in self._early:
            table[1 + predicted * 2 + self._early.pop(identifier)] += 1
            cells[identifier] = None
        else:
            cells[identifier] = table, 1 + predicted * 2

    def outcome(self, identifier, actual):
        """Take an outcome."""
        self.events += 1
        cells = self._cells
        known = cells.get(identifier, self)
        if known is None:
            return
        if known is self:
            self._early.setdefault(identifier, actual)
            return
        table, at = known
        table[at + actual] += 1
        cells[identifier] = None

    def counts(self):
        """By `experiment/variant/cell`."""
        names = ("predictions", "tn", "fn", "fp", "tp")
        return {
            f"{experiment}/{variant}/{name}": count
            for (experiment, variant), table in self._tables.items()
            for name, count in zip(names, table, strict=True)
        }
