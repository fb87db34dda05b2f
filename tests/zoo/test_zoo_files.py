"""Files of the zoo: only the very bytes that were shipped, wherever they come from."""

import dataclasses
import hashlib
import io
import os
import shutil
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import load as parse

from trueboundary import zoo
from trueboundary.runs import strict_json
from trueboundary.zoo import entry_files
from trueboundary.zoo import zoo_index as index

CNN = "mnist-0-6-symmetric-cnn"


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.delenv("TRUEBOUNDARY_ZOO", raising=False)


@pytest.fixture
def shipped():
    """Return the content of a shipped file, and its name."""
    entry = zoo.entries()[CNN]
    return entry_files.read_file(entry), entry.file


@pytest.fixture
def bare(shipped, monkeypatch, tmp_path):
    """A package whose files are missing, as for entries that lie elsewhere; return its folder."""
    folder = tmp_path / "package"
    shutil.copytree(index.PACKAGE_FOLDER / "cards", folder / "cards")
    shutil.copy(index.PACKAGE_FOLDER / "index.json", folder)
    for module in (index, entry_files):
        monkeypatch.setattr(module, "PACKAGE_FOLDER", folder)
    return folder


def named(classifier):
    return list(classifier.named_parameters())


def weights(classifier):
    return torch.cat([p.detach().flatten() for _, p in named(classifier)])


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content
                tar.addfile(member)
    return path


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize("how", ["argument", "variable"])
def test_a_file_is_found_in_a_folder_and_in_archives(
    bare, shipped, tmp_path, monkeypatch, kind, how
):
    content, file = shipped
    place = tmp_path / f"zoo.{kind}"
    if kind == "folder":
        place.mkdir()
        (place / file).write_bytes(content)
    else:
        {"tar": write_tar, "zip": write_zip}[kind](place, [(f"any/where/{file}", content)])
    if how == "argument":
        loaded = zoo.load(CNN, archive=place)
    else:
        monkeypatch.setenv("TRUEBOUNDARY_ZOO", str(place))
        loaded = zoo.load(CNN)
    stored = parse(content)
    assert torch.equal(weights(loaded), torch.cat([stored[n].flatten() for n, _ in named(loaded)]))


def test_what_is_nowhere_is_told_with_what_to_do(bare):
    with pytest.raises(FileNotFoundError) as caught:
        zoo.load(CNN)
    message = str(caught.value)
    assert "nothing is downloaded" in message or "install trueboundary again" in message
    assert "TRUEBOUNDARY_ZOO" in message
    assert "\n" not in message


def test_an_entry_of_the_release_archive_says_where_it_lies():
    with pytest.raises(FileNotFoundError, match="release archive that 'make release' builds"):
        zoo.load("mnist-0-6-symmetric-rbf-svm")


def test_a_place_where_there_is_nothing(bare, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="archive: there is nothing at"):
        zoo.load(CNN, archive=tmp_path / "none.tar")
    monkeypatch.setenv("TRUEBOUNDARY_ZOO", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="TRUEBOUNDARY_ZOO: there is nothing at"):
        zoo.load(CNN)
    (tmp_path / "empty").mkdir()
    monkeypatch.delenv("TRUEBOUNDARY_ZOO")
    with pytest.raises(FileNotFoundError, match="does not hold mnist-0-6-symmetric-cnn"):
        zoo.load(CNN, archive=tmp_path / "empty")


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize("change", ["one bit", "shorter", "longer", "empty"])
def test_another_content_is_refused_in_one_sentence(bare, shipped, tmp_path, kind, change):
    content, file = shipped
    changed = {
        "one bit": content[:-1] + bytes([content[-1] ^ 1]),
        "shorter": content[:-7],
        "longer": content + b"\0",
        "empty": b"",
    }[change]
    place = tmp_path / f"zoo.{kind}"
    if kind == "folder":
        place.mkdir()
        (place / file).write_bytes(changed)
    else:
        {"tar": write_tar, "zip": write_zip}[kind](place, [(file, changed)])
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - several sentences
        zoo.load(CNN, archive=place)
    message = str(caught.value)
    assert file in message
    assert "\n" not in message


def test_a_damaged_file_of_the_package_is_refused(bare, shipped):
    content, file = shipped
    (bare / "files").mkdir()
    (bare / "files" / file).write_bytes(content[:100] + b"x" + content[101:])
    with pytest.raises(zoo.DamagedZooError, match="is not the file that the zoo's index tells of"):
        zoo.load(CNN)


@pytest.mark.parametrize("cut", [0, 1, 100, 512, 1000, 20_000, -1025])
def test_a_truncated_archive(bare, shipped, tmp_path, cut):
    content, file = shipped
    whole = write_tar(tmp_path / "whole.tar", [(file, content)]).read_bytes()
    part = tmp_path / "part.tar"
    part.write_bytes(whole[: len(content) + 512 + cut + 1024 if cut < 0 else cut])
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        zoo.load(CNN, archive=part)
    assert "\n" not in str(caught.value)
    packed = write_zip(tmp_path / "whole.zip", [(file, content)]).read_bytes()
    (tmp_path / "part.zip").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="not a whole zip"):
        zoo.load(CNN, archive=tmp_path / "part.zip")


@pytest.mark.parametrize("link", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_pipes_in_an_archive_are_no_files(bare, shipped, tmp_path, link):
    content, file = shipped
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    archive = write_tar(tmp_path / "zoo.tar", [(file, (link, str(secret)))])
    with pytest.raises(FileNotFoundError, match="does not hold"):
        zoo.load(CNN, archive=archive)


def test_members_that_point_outside_are_read_where_they_lie_and_nothing_is_written(
    bare, shipped, tmp_path
):
    content, file = shipped
    archive = write_tar(tmp_path / "zoo.tar", [(f"../../{file}", content), ("/etc/x", b"x")])
    before = set(tmp_path.rglob("*"))
    assert weights(zoo.load(CNN, archive=archive)).isfinite().all()
    assert set(tmp_path.rglob("*")) == before


def test_two_members_of_one_name_are_refused(bare, shipped, tmp_path):
    content, file = shipped
    archive = write_tar(tmp_path / "zoo.tar", [(file, content), (f"b/{file}", content)])
    with pytest.raises(ValueError, match=f"holds 2 files named {file}"):
        zoo.load(CNN, archive=archive)


def test_a_bomb_is_not_unpacked(bare, shipped, tmp_path):
    _, file = shipped
    archive = write_zip(tmp_path / "zoo.zip", [(file, bytes(200_000_000))])
    assert archive.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="is larger than the 149,584 bytes"):
        zoo.load(CNN, archive=archive)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_out_of_a_folder_is_refused(bare, shipped, tmp_path):
    content, file = shipped
    (tmp_path / "outside").write_bytes(content)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / file).symlink_to(tmp_path / "outside")
    with pytest.raises(zoo.DamagedZooError, match="leads out of its folder"):
        zoo.load(CNN, archive=tmp_path / "folder")


def test_a_folder_with_a_pipe_does_not_wait(bare, shipped, tmp_path):
    _, file = shipped
    os.mkfifo(tmp_path / file)
    with pytest.raises(ValueError, match="should be a file"):
        zoo.load(CNN, archive=tmp_path)


def test_a_changed_card_or_index_is_refused(bare):
    file = bare / "cards" / f"{CNN}.json"
    file.write_text(file.read_text().replace("10000", "10001", 1))
    with pytest.raises(zoo.DamagedZooError, match="is not the card that trueboundary was shipped"):
        zoo.card(CNN)
    file.unlink()
    with pytest.raises(zoo.DamagedZooError, match="install trueboundary again"):
        zoo.card(CNN)
    text = (bare / "index.json").read_text()
    for other in (text.replace("149584", "149585"), text[:-10], "[]", "{}"):
        (bare / "index.json").write_text(other)
        with pytest.raises(zoo.DamagedZooError, match="is not the index that trueboundary was"):
            zoo.names()


def test_an_entry_trained_with_another_torch_loads_all_the_same(bare, shipped, tmp_path):
    content, file = shipped
    (tmp_path / file).write_bytes(content)
    expected = weights(zoo.load(CNN, archive=tmp_path))
    record = dataclasses.asdict(zoo.card(CNN))
    record["source"]["versions"]["torch"] = record["measured"]["torch"] = "1.0.0"
    rewrite(bare, record)
    assert zoo.card(CNN).source["versions"]["torch"] == "1.0.0"
    assert torch.equal(weights(zoo.load(CNN, archive=tmp_path)), expected)


def test_what_this_version_cannot_rebuild_is_told(bare, shipped, tmp_path):
    content, file = shipped
    (tmp_path / file).write_bytes(content)
    record = dataclasses.asdict(zoo.card(CNN))
    record["spec"]["class"] = "NetworkOfTomorrow"
    rewrite(bare, record)
    with pytest.raises(ValueError, match="known classes are"):
        zoo.load(CNN, archive=tmp_path)


def rewrite(folder, record):
    """Write a card with an index that knows its checksum."""
    text = strict_json.dumps(record)
    (folder / "cards" / f"{record['name']}.json").write_text(text)
    known = strict_json.unseal((folder / "index.json").read_text())
    checksum = hashlib.sha256(text.encode()).hexdigest()
    known["entries"][record["name"]]["card_sha256"] = checksum
    (folder / "index.json").write_text(strict_json.seal(known))


def test_the_location_says_what_is_missing(bare, tmp_path, monkeypatch):
    found = entry_files.location()
    assert not found.found
    assert "not here; set TRUEBOUNDARY_ZOO" in found.message
    (bare / "index.json").write_text("{}")
    assert "install trueboundary again" in entry_files.location().message
    monkeypatch.undo()
    monkeypatch.setenv("TRUEBOUNDARY_ZOO", "~nobody-of-that-name/zoo")
    assert "TRUEBOUNDARY_ZOO" in entry_files.location().message
