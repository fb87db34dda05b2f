"""Jobs that are cut into pieces, and counts that a killed job goes on from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from trueboundary.runs import Context, Pieced, Run, RunConfig, RunResult, Tally, joined, spans


@dataclass(frozen=True)
class PiecedNumbers(RunConfig):
    """Where the numbers to be squared come from."""

    def compute(self, context: Context) -> RunResult:
        return RunResult({}, {"number": np.arange(10.0)})


@dataclass(frozen=True)
class Squares(Pieced):
    """Squares of some numbers, in pieces of three if there are more than five."""

    n: int

    def pieces(self) -> Mapping[str, RunConfig]:
        if self.n <= 5:
            return {}
        return {f"from-{first}": SquaresPiece(self.n, first, stop)
                for first, stop in spans(self.n, 3)}  # fmt: skip

    def whole_needs(self) -> Mapping[str, RunConfig]:
        return {"numbers": PiecedNumbers()}

    def whole_cost(self) -> float:
        return 10.0 * self.n

    def whole(self, context: Context) -> RunResult:
        return RunResult({"n": self.n}, squares(context, 0, self.n))

    def put_together(self, pieces: Mapping[str, Run], context: Context) -> RunResult:
        return RunResult({"n": self.n}, joined([piece.arrays for piece in pieces.values()]))


@dataclass(frozen=True)
class SquaresPiece(Squares):
    first: int
    stop: int

    def pieces(self) -> Mapping[str, RunConfig]:
        return {}

    def whole(self, context: Context) -> RunResult:
        return RunResult({}, squares(context, self.first, self.stop))


def squares(context: Context, first: int, stop: int) -> dict[str, np.ndarray]:
    return {"square": context.inputs["numbers"].arrays["number"][first:stop] ** 2}


def computed(config: RunConfig, folder: Path) -> Run:
    needs = {name: computed(need, folder) for name, need in config.needs().items()}
    result = config.compute(Context(needs, folder, lambda fraction: None))
    return Run(config.describe(), result, {}, folder)


def test_a_small_job_is_done_in_one_piece(tmp_path: Path) -> None:
    job = Squares(5)
    assert job.needs() == {"numbers": PiecedNumbers()}
    assert job.cost() == 50.0
    assert computed(job, tmp_path).arrays["square"].tolist() == [0, 1, 4, 9, 16]


def test_a_large_job_needs_its_pieces_and_puts_them_together_in_their_order(tmp_path: Path) -> None:
    job = Squares(7)
    assert list(job.needs()) == ["from-0", "from-3", "from-6"]
    assert job.cost() < 1 < sum(piece.cost() for piece in job.needs().values())
    found = computed(job, tmp_path)
    whole = job.whole(Context({"numbers": computed(PiecedNumbers(), tmp_path)}, tmp_path, print))
    assert found.summary == whole.summary == {"n": 7}
    np.testing.assert_array_equal(found.arrays["square"], whole.arrays["square"])


def test_a_class_that_says_nothing_says_what_it_lacks(tmp_path: Path) -> None:
    class Silent(Pieced):
        pass

    with pytest.raises(NotImplementedError, match="Silent does not say how it is computed in one"):
        Silent().compute(Context({}, tmp_path, print))
    with pytest.raises(NotImplementedError, match="its pieces are put together"):
        Silent().put_together({}, Context({}, tmp_path, print))


@pytest.mark.parametrize(
    ("n", "size", "start", "expected"),
    [(0, 3, 0, []), (3, 3, 0, [(0, 3)]), (7, 3, 1, [(1, 4), (4, 7)]), (2, 9, 0, [(0, 2)])],
)
def test_spans_cover_all_once(n: int, size: int, start: int, expected: list[tuple]) -> None:
    assert list(spans(n, size, start=start)) == expected


def test_nothing_joined_is_nothing() -> None:
    assert joined([]) == joined([{}, {}]) == {}


def test_a_tally_goes_on_from_its_last_block_whoever_was_killed(tmp_path: Path) -> None:
    path, blocks, looked_at = tmp_path / "tally.json", [[1, 2], [4, 6], [3], [8]], []

    def count(stop_before: int | None = None) -> Tally:
        tally = Tally(path)
        for index, block in tally.left("even", blocks):
            if index == stop_before:
                break
            looked_at.append(index)
            tally.add("even", sum(number % 2 == 0 for number in block))
        return tally

    assert count(stop_before=2).total("even") == 3
    assert count().total("even") == 4
    assert looked_at == [0, 1, 2, 3]
    assert list(Tally(path).left("even", blocks)) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["tally.json"]


def test_counts_of_one_tally_know_nothing_of_each_other(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "tally.json")
    tally.add("inner", 2)
    tally.add("outer", 5)
    tally.add("inner", 1)
    again = Tally(tmp_path / "tally.json")
    assert [again.total(name) for name in ("inner", "outer", "nobody")] == [3, 5, 0]
    assert [len(list(again.left(name, "abc"))) for name in ("inner", "outer", "nobody")] == [
        1,
        2,
        3,
    ]


def test_a_tally_in_memory_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tally = Tally()
    tally.add("even", 1)
    assert tally.total("even") == 1
    assert not list(tmp_path.iterdir())
