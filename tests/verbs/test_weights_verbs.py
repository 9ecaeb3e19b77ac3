"""`weights list` and `weights pull`, with a cache filled by hand in place of the net."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from vitrail import remote
from vitrail.cli import run
from vitrail.errors import SystemFault, UsageError, VitrailError, WeightsError
from vitrail.verbs.weights import weights_list, weights_pull
from vitrail.weights.published import published

SINE = published("cct_7_3x1_32_sine.cifar10_5000e")
HUB = published("vit_base_patch16_224.hub_in21k")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; whoever would go out to the net fails the test."""

    def outside(*_: object, **__: object) -> None:
        raise AssertionError("the net was asked")

    monkeypatch.setattr("vitrail.remote.cache.ask", outside)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return remote.cache_folder()


def fill(cache: Path) -> Path:
    path = remote.place(SINE.url, cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    return path


def fill_hub(cache: Path) -> Path:
    folder = remote.hub_place(HUB.url.removeprefix("hf:"), cache)
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_list_finds_by_every_word(cache: Path) -> None:
    assert len(weights_list()) == 170
    assert {one.row.name for one in weights_list("sine", "CIFAR100")} == {
        "cct_7_3x1_32_sine_c100.cifar100_1500e", "cct_7_3x1_32_sine_c100.cifar100_5000e",
    }  # fmt: skip
    assert {one.row.dialect for one in weights_list("microsoft/unilm")} == {"unilm"}
    with pytest.raises(WeightsError, match="no published weights have") as caught:
        weights_list("vit", "patch99")
    assert caught.value.code == "V203" and caught.value.hint


def test_list_knows_what_is_cached_and_how_large_it_is(cache: Path) -> None:
    assert not any(one.cached for one in weights_list())
    fill(cache)
    fill_hub(cache)
    weights_pull(HUB.name)
    assert {one.row.name for one in weights_list() if one.cached} == {SINE.name, HUB.name}
    (listed,) = weights_list("vit_base_patch16_384.vitkeras_in21k_ft_in1k")
    assert listed.mib_is_listed and round(listed.mib, 1) == 331.4
    (about,) = weights_list("vit_base_patch8_224.augreg_in21k_ft_in1k")
    assert not about.mib_is_listed and round(about.mib) == 330


def test_pull_gives_the_file_and_what_to_know(cache: Path, tmp_path: Path) -> None:
    path = fill(cache)
    done = weights_pull(SINE.name)
    assert (done.path, done.bytes, done.row, done.notes) == (
        path,
        7,
        SINE,
        ("Apache-2.0, SHI-Labs/Compact-Transformers",),
    )
    assert weights_pull(SINE.file_name).path == weights_pull(SINE.url).path == path
    note = json.loads(path.with_name(f".{path.name}.pulled.json").read_text())
    assert note["sha256"] == hashlib.sha256(b"weights").hexdigest()
    path.write_bytes(b"others!")
    with pytest.raises(WeightsError, match="is not the file of"):
        weights_pull(SINE.name)


def test_pull_copies_to_a_file_or_into_a_folder(cache: Path, tmp_path: Path) -> None:
    fill(cache)
    (tmp_path / "here").mkdir()
    for out, wanted in [(tmp_path / "new" / "mine.pth", tmp_path / "new" / "mine.pth"),
                        (tmp_path / "here", tmp_path / "here" / SINE.file_name)]:  # fmt: skip
        assert weights_pull(SINE.name, out=out).path == wanted and wanted.read_bytes() == b"weights"
        with pytest.raises(UsageError) as caught:
            weights_pull(SINE.name, out=out)
        assert caught.value.code == "V006"


def test_pull_of_a_hub_model_is_a_folder(cache: Path, tmp_path: Path) -> None:
    folder = fill_hub(cache)
    done = weights_pull("hf:google/vit-base-patch16-224-in21k")
    assert (done.path, done.row, done.bytes) == (folder, HUB, 9) and "it has no head" in done.notes
    copied = weights_pull(HUB.name, out=tmp_path / "copy").path
    assert sorted(path.name for path in copied.iterdir()) == ["config.json", "model.safetensors"]


def test_what_has_a_head_of_zeros_or_is_a_zip_says_so(cache: Path) -> None:
    for name, words in [
        ("vit_base_patch16_224.google_in21k", "its head is of zeros"),
        ("cvt_7_4_32.cifar10_200e", "a zip"),
    ]:
        path = remote.place(published(name).url, cache)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        assert any(words in note for note in weights_pull(name).notes)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("ViT-B_16.npz", "V203", "vit_base_patch16_384.google_in21k_ft_in1k"),
        ("vit_base_patch8_224", "V203", "vit_base_patch8_224.augreg_in21k_ft_in1k"),
        ("vit-base-5", "V203", "never published"),
        ("http://example.org/a.npz", "V007", "only https is"),
        ("file:///etc/passwd", "V007", "only https is"),
        ("hf:nobody", "V007", "OWNER/NAME"),
    ],
)
def test_pull_refuses_what_names_nothing(cache: Path, name: str, code: str, words: str) -> None:
    with pytest.raises(VitrailError) as caught:
        weights_pull(name)
    assert caught.value.code == code and words in str(caught.value)


def test_offline_the_message_names_url_and_place(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.remote.web import Again

    def nobody(*_: object, **__: object) -> None:
        raise Again("gaierror: Name or service not known")

    monkeypatch.setattr("vitrail.remote.cache.ask", nobody)
    with pytest.raises(SystemFault) as caught:
        weights_pull(SINE.name, how=remote.How(tries=2, pause=0.0))
    error = caught.value
    assert error.code == "V704" and SINE.url in error.what and str(remote.place(SINE.url, cache)) in error.hint


def test_command_line(cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fill(cache)
    assert run(["weights", "list", "sine", "cifar10"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:6]] == [
        "cct_7_3x1_32_sine.cifar10_1500e", "cct_7_3x1_32_sine.cifar10_5000e",
        "cct_7_3x1_32_sine_c100.cifar100_1500e", "cct_7_3x1_32_sine_c100.cifar100_5000e",
    ]  # fmt: skip
    assert out.splitlines()[3].split()[-1] == "yes" and "about 14" in out and "98.00" in out
    assert run(["weights", "list", "augreg2", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [value["name"] for value in values] == [
        "vit_base_patch16_224.augreg2_in21k_ft_in1k", "vit_base_patch8_224.augreg2_in21k_ft_in1k",
    ]  # fmt: skip
    assert values[0]["policy"]["size"] == [224, 224] and values[0]["measured"][0]["by"] == "timm"
    assert run(["weights", "pull", SINE.name, "--out", str(tmp_path / "x.pth"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["path"] == str(tmp_path / "x.pth") and "Apache-2.0" in err
    assert run(["weights", "pull", SINE.name]) == 0
    assert capsys.readouterr().out == f"{remote.place(SINE.url, cache)}\n"


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["weights", "lst"], "V001", "did you mean `list`?"),
        (["weights", "list", "--jsn"], "V001", "--json"),
        (["weights", "pull"], "V001", "--help"),
        (["weights", "pull", "nothing"], "V203", "weights list"),
        (["weights", "list", "cct", "zzz"], "V203", "weights list"),
    ],
)
def test_wrong_use(cache: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: str, hint: str) -> None:
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error[{code}]: ") and hint in err


def test_the_bar_counts_bytes_on_a_terminal_and_is_silent_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitrail.cli.progress import Counter

    with Counter("x", bytes=True) as bar:
        bar(1, 2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Counter("x", bytes=True) as bar:
        bar(1, 2)
        bar(5, 10)  # the next file of a folder
    assert "5/10 bytes" in capsys.readouterr().err
