from pathlib import Path

import pytest

from abmonitor.secret import Secret, SecretError


def test_a_secret_is_read_from_the_environment_when_needed() -> None:
    assert Secret(env="URL").resolve({"URL": "http://here"}) == "http://here"


def test_a_secret_is_read_again_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = Secret(file=str(path))
    path.write_text("one\n")
    assert secret.resolve({}) == "one"
    path.write_text("two")
    assert secret.resolve({}) == "two"


@pytest.mark.parametrize("environ", [{}, {"URL": ""}])
def test_an_unset_variable_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(SecretError, match=r"^the environment variable URL is not set or empty$"):
        Secret(env="URL").resolve(environ)


def test_a_file_without_a_secret_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = Secret(file=str(path))
    with pytest.raises(SecretError, match=r"cannot read the file .*secret: No such file"):
        secret.resolve({})
    path.write_bytes(b"\n")
    with pytest.raises(SecretError, match="secret is not set or empty"):
        secret.resolve({})
    path.write_bytes(b"\xff")
    with pytest.raises(SecretError, match="it is not UTF-8 text"):
        secret.resolve({})


def test_a_secret_never_shows_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URL", "hush")
    secret = Secret.parse({"env": "URL"})
    assert secret.resolve({"URL": "hush"}) == "hush"
    assert "hush" not in f"{secret!r}{secret}"


@pytest.mark.parametrize(
    "data", ["hush", None, 3, [], {}, {"env": "hush", "file": "hush"}, {"env": 3}, {"hush": "a"}]
)
def test_a_secret_in_the_settings_is_refused_and_not_repeated(data: object) -> None:
    with pytest.raises(ValueError, match="never from settings") as caught:
        Secret.parse(data)
    assert "hush" not in str(caught.value)
