"""Entries of the zoo from a store: the same bytes from the same runs, whatever torch made them."""

import hashlib
import json
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from trueboundary import zoo
from trueboundary.classifiers import from_arrays
from trueboundary.cli import main
from trueboundary.release import Effort, ExportError, build_archives, export_zoo, zoo_measurements
from trueboundary.release.stored_runs import find_run
from trueboundary.release.zoo_contents import groups, network_name
from trueboundary.runs import DamagedRunError, Store, execute, strict_json
from trueboundary.zoo import entry_files
from trueboundary.zoo import zoo_index as index
from trueboundary.zoo.zoo_index import read_card, read_index

LITTLE = Effort(n_points=50, n_on_spheres=500, n_distances=2)
PAIR = "synthetic-symmetric"
NETWORKS = {"spheres-quadratic-d20-h40-n2000", "spheres-quadratic-d20-h40-online",
            "spheres-relu-d20-h32-d2-online"}  # fmt: skip
THREE = "synthetic-0-1-2-symmetric"
CLASSIFIERS = {f"{PAIR}-{words}" for words in ("cnn", "linear-svm", "rbf-svm")} | {
    f"{THREE}-{words}" for words in ("cnn", "rbf-svm", "softmax-regression", "trades")
}
PROBLEMS = {PAIR, "synthetic-asymmetric", THREE, "synthetic-0-1-2-asymmetric", "spheres-d20"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with the runs of all entries at the scale smoke."""
    store = Store(tmp_path_factory.mktemp("store") / "smoke")
    runs = [draft.run for group in groups("smoke") for draft in group.drafts if draft.run]
    with ThreadPoolExecutor(1) as executor:
        assert execute(runs, store, executor) == []
    return store


@pytest.fixture(scope="module")
def measured():
    """What was measured for the zoo of that store, by name and effort."""
    return {}


@pytest.fixture(scope="module")
def exported(store, measured, tmp_path_factory):
    """A repository with the zoo of that store."""
    root = tmp_path_factory.mktemp("repository")
    (root / "pyproject.toml").touch()

    def measure(subject, effort):
        found = zoo_measurements.measure(subject, effort)
        measured[subject.draft.name, effort] = found
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trueboundary.release.zoo_export.measure", measure)
        made = export_zoo([store.root], root, scales=("smoke",), effort=LITTLE)
    assert set(made) == NETWORKS | CLASSIFIERS | PROBLEMS
    assert len(set(made)) == len(made)
    return root


def folder(root):
    return root / "src" / "trueboundary" / "zoo"


def checksums(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def measured_before(exported, measured, monkeypatch):
    """Let what was measured for that zoo not be measured again."""
    monkeypatch.setattr(
        "trueboundary.release.zoo_export.measure",
        lambda subject, effort: measured[subject.draft.name, effort],
    )


@pytest.fixture
def installed(exported, monkeypatch):
    """Let the exported zoo be that of the package."""
    monkeypatch.delenv("TRUEBOUNDARY_ZOO", raising=False)
    for module in (index, entry_files):
        monkeypatch.setattr(module, "PACKAGE_FOLDER", folder(exported))
    return exported


@pytest.mark.usefixtures("installed")
def test_what_is_exported_loads_as_it_was_trained(store):
    for group in groups("smoke"):
        for draft in group.drafts:
            problem = zoo.problem(draft.name)
            assert problem.describe()
            if draft.kind == "problem":
                continue
            trained = from_arrays(*store.load(draft.run).result.models["final"])
            loaded = zoo.load(draft.name)
            for (name, ours), (_, theirs) in zip(
                loaded.state_dict().items(), trained.state_dict().items(), strict=True
            ):
                assert torch.equal(ours, theirs), name
            card = zoo.card(draft.name)
            assert card.source["run"] == draft.run.folder
            assert card.settings["n_train"] == draft.run.n_train
            assert "digest" not in json.dumps(card.settings)


@pytest.mark.usefixtures("installed")
def test_a_problem_is_the_fitted_one_rounded_to_float32(store):
    draft = next(d for g in groups("smoke") for d in g.drafts if d.name == PAIR)
    fitted = store.load(draft.run).result.models["fit"][1]
    problem = zoo.problem(PAIR)
    assert problem.density(0).dtype == torch.float64
    np.testing.assert_array_equal(
        problem.density(0).means.numpy(), fitted["class_0.means"].astype("float32")
    )


def test_the_same_store_gives_the_same_bytes(store, exported, tmp_path):
    export_zoo([store.root], tmp_path, scales=("smoke",), effort=LITTLE)
    found, expected = checksums(tmp_path), checksums(exported)
    assert found == {name: expected[name] for name in found}
    assert set(expected) - set(found) <= {"pyproject.toml"}


def test_what_has_not_changed_is_not_measured_again(store, exported, tmp_path, monkeypatch):
    root = tmp_path / "copy"
    shutil.copytree(exported, root)

    def measure(*_):
        raise AssertionError("it was measured again")

    monkeypatch.setattr("trueboundary.release.zoo_export.measure", measure)
    export_zoo([store.root], root, scales=("smoke",), effort=LITTLE)
    assert checksums(root) == checksums(exported)
    for change in ({"again": True}, {"effort": Effort(51, 501, 4)}):
        with pytest.raises(AssertionError, match="measured again"):
            export_zoo([store.root], root, scales=("smoke",), **{"effort": LITTLE} | change)
    assert zoo_measurements.measure is not measure


@pytest.mark.usefixtures("measured_before")
def test_runs_of_another_torch_are_found(store, exported, tmp_path):
    """Their folders have other names: the hash in these holds torch's version."""
    other = Store(tmp_path / "other")
    digests = {
        path.name.rpartition("-")[2]: hashlib.sha256(path.name.encode()).hexdigest()[:16]
        for path in (store.root / "runs").iterdir()
    }
    for path in (store.root / "runs").iterdir():
        kind, _, digest = path.name.rpartition("-")
        target = other.root / "runs" / f"{kind}-{digests[digest]}"
        shutil.copytree(path, target)
        text = (target / "run.json").read_text()
        for mine, theirs in digests.items():
            text = text.replace(mine, theirs)
        record = strict_json.loads(text)
        del record["checksum"]
        record["info"]["versions"]["torch"] = "9.9.9"
        (target / "run.json").write_text(strict_json.seal(record))
    root = tmp_path / "root"
    made = export_zoo([other.root], root, scales=("smoke",), effort=LITTLE)
    assert set(made) == NETWORKS | CLASSIFIERS | PROBLEMS
    mine, theirs = read_index(folder(exported)), read_index(folder(root))
    assert {n: e.sha256 for n, e in mine.items()} == {n: e.sha256 for n, e in theirs.items()}
    card = read_card(theirs[f"{PAIR}-cnn"], folder(root))
    assert card.source["versions"]["torch"] == "9.9.9"


def test_two_runs_with_the_same_fields_are_not_chosen_between(store, tmp_path):
    wanted = next(d.run for g in groups("smoke") for d in g.drafts if d.name in NETWORKS)
    record = strict_json.unseal((store.path(wanted) / "run.json").read_text())
    older = tmp_path / "runs" / f"{wanted.kind}-{'2' * 16}"
    shutil.copytree(store.path(wanted), older)
    (older / "run.json").write_text(strict_json.seal(record | {"digest": "2" * 16}))
    assert find_run([Store(tmp_path)], wanted) is None, "an older version of the class"
    record["info"]["versions"]["torch"] = "9.9.9"
    for digest in ("0" * 16, "1" * 16):
        target = tmp_path / "runs" / f"{wanted.kind}-{digest}"
        shutil.copytree(store.path(wanted), target)
        (target / "run.json").write_text(strict_json.seal(record | {"digest": digest}))
    with pytest.raises(ValueError, match="holds 2 runs with the fields of one TrainedNetwork"):
        find_run([Store(tmp_path)], wanted)
    shutil.rmtree(target)
    assert find_run([Store(tmp_path)], wanted).config == record["config"]
    (tmp_path / "runs" / f"{wanted.kind}-{'0' * 16}" / "run.json").write_text("{")
    with pytest.raises(DamagedRunError, match="is damaged"):
        find_run([Store(tmp_path)], wanted)


@pytest.mark.usefixtures("measured_before")
def test_entries_are_added_by_running_it_again_and_stale_files_go(store, exported, tmp_path):
    part = Store(tmp_path / "part")
    names = {"TrainedNetwork"}
    for path in (store.root / "runs").iterdir():
        if path.name.partition("-")[0] in names:
            shutil.copytree(path, part.root / "runs" / path.name)
    root = tmp_path / "root"
    made = export_zoo([part.root], root, scales=("smoke",), effort=LITTLE)
    assert set(made) == NETWORKS | {"spheres-d20"}
    (folder(root) / "files" / "left-over.safetensors").write_bytes(b"x")
    assert not export_zoo([part.root], root, scales=("quick",), effort=LITTLE)
    assert not (folder(root) / "files" / "left-over.safetensors").exists()
    assert set(read_index(folder(root))) == set(made)
    export_zoo([store.root], root, scales=("smoke",), effort=LITTLE)
    assert set(read_index(folder(root))) == NETWORKS | CLASSIFIERS | PROBLEMS


def test_a_smaller_scale_does_not_replace_a_larger_one(store, exported, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(exported, root)
    entries = read_index(folder(root))
    name = "spheres-relu-d20-h32-d2-online"
    record = asdict(read_card(entries[name], folder(root)))
    record["source"]["scale"] = "paper"
    text = strict_json.dumps(record)
    (folder(root) / "cards" / f"{name}.json").write_text(text)
    known = strict_json.unseal((folder(root) / "index.json").read_text())
    known["entries"][name]["card_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder(root) / "index.json").write_text(strict_json.seal(known))
    made = export_zoo([store.root], root, scales=("smoke",), effort=LITTLE)
    assert name not in made
    assert set(made) == (NETWORKS | CLASSIFIERS | PROBLEMS) - {name}
    assert read_card(read_index(folder(root))[name], folder(root)).source["scale"] == "paper"


def test_names_of_networks_are_those_of_the_field():
    found = {network_name(d.run) for g in groups("paper") for d in g.drafts if g.experiment[:3] ==
             "sph" and d.run}  # fmt: skip
    assert found == {
        "spheres-quadratic-h1000-n100000",
        "spheres-quadratic-h1000-n1000000",
        "spheres-quadratic-h1000-online",
        "spheres-relu-h1000-d2-online",
    }


class TestArchives:
    def test_the_zoo_is_packed_and_read_from_its_archive(self, installed, monkeypatch, tmp_path):
        (archive,) = build_archives(installed)
        first = archive.read_bytes()
        assert archive.parent == installed / "release"
        line = (installed / "zoo" / "SHA256SUMS").read_text()
        assert line == f"{hashlib.sha256(first).hexdigest()}  {archive.name}\n"
        build_archives(installed)
        assert archive.read_bytes() == first
        name = f"{PAIR}-cnn"
        expected = zoo.load(name).state_dict()
        alone = tmp_path / "package"
        shutil.copytree(folder(installed) / "cards", alone / "cards")
        shutil.copy(folder(installed) / "index.json", alone)
        for module in (index, entry_files):
            monkeypatch.setattr(module, "PACKAGE_FOLDER", alone)
        loaded = zoo.load(name, archive=archive).state_dict()
        assert all(torch.equal(loaded[key], expected[key]) for key in expected)
        assert zoo.problem(name, archive=archive).describe()

    def test_models_of_a_store_are_a_store_again(self, exported, store, tmp_path):
        _, archive = build_archives(exported, [store.root])
        assert archive.name.startswith("trueboundary-models-smoke-")
        with tarfile.open(archive) as tar:
            assert {member.mtime for member in tar} == {315_532_800}
            tar.extractall(tmp_path, filter="data")
        unpacked = Store(tmp_path / "smoke")
        wanted = next(d.run for g in groups("smoke") for d in g.drafts if d.name in NETWORKS)
        assert unpacked.load(wanted).result.models.keys() == store.load(wanted).result.models.keys()
        assert len((exported / "zoo" / "SHA256SUMS").read_text().splitlines()) == 2

    def test_a_missing_or_changed_file_is_told(self, exported, tmp_path):
        root = tmp_path / "copy"
        shutil.copytree(exported, root)
        file = folder(root) / "files" / f"{PAIR}-cnn.safetensors"
        content = file.read_bytes()
        file.write_bytes(content[:-1] + b"?")
        with pytest.raises(ExportError, match="is not the file in the index"):
            build_archives(root)
        file.unlink()
        with pytest.raises(ExportError, match="is missing; 'make zoo STORE="):
            build_archives(root)

    def test_a_folder_without_models_is_told(self, exported, tmp_path):
        with pytest.raises(ExportError, match="holds no run with a model"):
            build_archives(exported, [tmp_path])


class TestCommands:
    def test_no_store_no_repository_and_nothing_in_it(self, capsys, tmp_path, exported):
        assert main(["release", "zoo", str(tmp_path), "--root", str(exported)]) == 2
        assert "is no folder of finished runs" in capsys.readouterr().err
        assert main(["release", "archives", "--root", str(tmp_path)]) == 2
        assert "is not trueboundary's repository" in capsys.readouterr().err
        (tmp_path / "runs").mkdir()
        assert main(["release", "zoo", str(tmp_path), "--root", str(exported)]) == 2
        assert "none of these folders holds all runs of an entry" in capsys.readouterr().err

    def test_archives(self, capsys, exported):
        assert main(["release", "archives", "--root", str(exported)]) == 0
        out = capsys.readouterr().out
        assert "trueboundary-zoo-" in out
        assert Path(out.split(".tar")[0] + ".tar").exists()
