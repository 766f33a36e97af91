"""Doubts wait for a person where one is there; failures become findings; nothing unsound is delivered."""

import pytest

from coordinator import delivery
from coordinator.errors import ReportUnsound
from coordinator.types import Citation


def test_a_blocking_doubt_waits_for_a_person_and_goes_on_with_the_answer(workspace, run):
    workspace.use(probe="Unsure")

    async def act(runner, opened):
        asked = await runner.start(opened, interactive=True)
        [waiting] = asked.waiting
        assert (waiting.kind, asked.report) == ("doubt", None)
        assert [d.gate for d in waiting.doubts] == ["confidence"]
        return await runner.answer(asked.case, waiting, "deliver")

    result = run(act)
    assert result.waiting == () and result.report.outcome == "uncertain"
    assert workspace.looks() == [1]


def test_without_a_person_the_report_says_what_is_doubted(workspace, run):
    workspace.use(probe="Unsure")
    result = run(lambda runner, opened: runner.start(opened))
    assert result.report.outcome == "uncertain"
    assert [d.gate for d in result.report.gates] == ["confidence"]


def test_a_specialist_that_breaks_becomes_a_finding_that_says_so(workspace, run):
    workspace.use(probe="Broken")
    result = run(lambda runner, opened: runner.start(opened))
    assert result.report.outcome == "unknown"
    failed = [w for w in result.report.work if w.status == "failed"]
    assert [w.specialist for w in failed] == ["probe"] and "the probe broke" in failed[0].summary
    assert "coverage" in [d.gate for d in result.report.gates]


def test_a_report_whose_citation_does_not_stand_is_not_delivered(workspace, run):
    async def act(runner, opened):
        result = await runner.start(opened)
        good = result.report.citations[0]
        forged = Citation(n=99, call=good.call, tool=good.tool, arguments=good.arguments, quote="never said")
        report = result.report.model_copy(update={"citations": (*result.report.citations, forged)})
        async with runner.desk(result.case) as desk:
            await delivery.prove(result.report, "as it was [E1]", desk)
            with pytest.raises(ReportUnsound, match=r"\[E99\]"):
                await delivery.prove(report, "as it was [E1]", desk)
            with pytest.raises(ReportUnsound, match=r"\[E50\]"):
                await delivery.prove(result.report, "a reference to nothing [E50]", desk)

    run(act)


def test_only_the_specialists_that_were_named_are_asked(workspace, run):
    result = run(lambda runner, opened: runner.start(opened, specialists=["runbooks"]))
    assert workspace.looks() == [] and result.report.outcome == "unknown"
