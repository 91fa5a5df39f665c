"""Settings files: one, or a folder of them that becomes one document (file system)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from abmonitor.yaml_source import Document, KeyPath, Mistake, Position, read


def read_all(path: Path) -> tuple[list[Document], list[Mistake], bool]:
    """Read the file, or all files of the folder: mappings, mistakes, and whether nothing is missing."""
    documents: list[Document] = []
    mistakes: list[Mistake] = []
    files = _files(path, mistakes)
    for file in files:
        document, found = read(file)
        mistakes += found
        if document is None:
            continue
        if isinstance(document.data, dict):
            documents.append(document)
        else:
            mistakes.append(document.mistake((), "expected a mapping with `experiments`"))
    return documents, mistakes, len(documents) == len(files)


def _files(path: Path, mistakes: list[Mistake]) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        # Kubernetes mounts a ConfigMap with hidden folders beside the files.
        named = [file for file in path.iterdir() if file.suffix in {".yaml", ".yml"}]
        files = [file for file in named if not file.name.startswith(".") and not file.is_dir()]
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        mistakes.append(Position(str(path)).mistake(f"cannot read the folder: {why}"))
        return []
    if not files:
        mistakes.append(Position(str(path)).mistake("no *.yaml or *.yml file in this folder"))
    return sorted(files, key=lambda file: file.name)


def join(documents: list[Document], mistakes: list[Mistake]) -> Document:
    """One document of the mappings in several files."""
    data: dict[str, Any] = {}
    values: dict[KeyPath, Position] = {(): documents[0].values[()]}
    keys: dict[KeyPath, Position] = {}
    for document in documents:
        taken: dict[str, int] = {}
        for key, value in document.data.items():  # type: ignore[attr-defined] # read_all() made sure
            if key not in data:
                data[key], taken[key] = value, 0
            elif key == "experiments" and isinstance(value, list) and isinstance(data[key], list):
                taken[key] = len(data[key])
                data[key] = data[key] + value
            else:
                wrong = f"{key!r} was given already in {keys[key,]}"
                if key == "experiments":
                    wrong = f"expected lists here and in {keys[key,]}"
                mistakes.append(document.mistake((key,), wrong, at_key=True))
        for source, target in ((document.values, values), (document.keys, keys)):
            target.update(_shifted(source, taken))
    return Document(data, values, keys)


def _shifted(
    positions: Mapping[KeyPath, Position], taken: Mapping[str, int]
) -> Iterator[tuple[KeyPath, Position]]:
    """Positions below the keys that were taken, their list indices moved up."""
    for path, position in positions.items():
        match path:
            case (str(key), int(index), *rest) if key in taken:
                yield (key, index + taken[key], *rest), position
            case (str(key), *_) if taken.get(key) == 0:
                yield path, position
