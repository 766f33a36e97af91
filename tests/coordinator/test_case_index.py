"""The index of cases: one key opens one case, whoever asks and however often."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coordinator.case_index import CaseIndex
from coordinator.types import Trigger

TICK = Trigger(kind="schedule", title="nightly", question="What is due?", workflow="nightly", inputs={"n": 1})


def test_a_key_opens_one_case_however_many_ask_at_once(tmp_path: Path):
    def ask(n: int) -> tuple[str, bool]:
        return CaseIndex(tmp_path).open_once(TICK, f"nightly {n % 4}")

    CaseIndex(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(ask, range(40)))
    assert len({case for case, _ in told}) == 4
    assert sum(new for _, new in told) == 4
    index = CaseIndex(tmp_path)
    assert len(index.list()) == 4
    case, new = index.open_once(TICK, "nightly 0")
    assert not new and index.trigger(case) == TICK
