"""What the scenes of `tests/chaos` share."""

from collections.abc import Callable

from support.scene import Scene


MakeScene = Callable[..., Scene]
"""Sets a scene over a Redis; takes the fields of `SceneOptions` by name."""
