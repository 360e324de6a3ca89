"""Interaction logs of every format as one indexed, split and checked :class:`~oovrec.data.dataset.Dataset`."""
