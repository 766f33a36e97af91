"""What people type is understood: other wordings, typos, and what is about something else."""

import pytest

from coordinator.chat_intents import read, words_of

COMPONENTS = ("frontend", "cart-service", "billing", "ledger-db", "search")
CASE_WORDS = words_of(
    ["Checkout is failing: p95 latency of billing rose from 80 ms to 2.1 s", "pool timeout"]
)

PHRASES = {
    "summary": [
        "what is going on?",
        "what's wrong?",
        "checkout is failing, what is going on?",
        "whats happening",
        "why don't you give me a summary",
        "tl;dr",
        "please summarise the incident",
        "is billing broken?",
        "billing is slow",
        "what happened?",
    ],
    "cause": [
        "why?",
        "why is checkout failing",
        "what is the root cause?",
        "what caused this",
        "what's the reason for the errors",
        "waht caused it?",
    ],
    "about": [
        "why not the database?",
        "could it be the network?",
        "what about search?",
        "is it the frontend?",
        "did you consider the cache",
        "did you check ledger-db?",
        "maybe it is the cart?",
        "are you sure it is not the database?",
        "why not teh databse?",
        "why nott the db",
        "and search?",
        "can we rule out DNS?",
        "why isn't it the node",
    ],
    "who": [
        "who deployed that?",
        "who did this?",
        "who changed it",
        "who is the author of that commit?",
        "who pushed the change",
        "whose commit was it?",
        "who made that change?",
        "who shipped billing",
    ],
    "changes": [
        "what changed?",
        "was there a deployment?",
        "any recent deploys?",
        "show me the diff",
        "show me the commits",
        "what was released before it?",
        "did anybody flip a flag",
    ],
    "logs": [
        "show me the logs",
        "logs",
        "billing logs please",
        "can I see the log lines of frontend?",
        "shwo logs",
    ],
    "metrics": ["show me the metrics", "graph of billing", "what do the metrics say"],
    "traces": ["show me a trace", "any slow spans?", "traces of billing"],
    "sure": [
        "how sure are you?",
        "how confident are you in this",
        "are you sure?",
        "what is your confidence",
        "how certain is that",
    ],
    "todo": [
        "what should I do?",
        "how do I fix it?",
        "what are the next steps",
        "can you roll it back? what action do you recommend",
        "should I rollback billing?",
        "how can we mitigate this",
        "should I restart billing?",
    ],
    "since": ["since when?", "when did it start?", "how long has this been going on?", "when did that begin"],
    "bad": [
        "how bad is it?",
        "what is the impact?",
        "who is affected?",
        "what's the blast radius",
        "how severe is this",
        "are customers affected",
    ],
    "hit": ["is billing affected?", "how bad is it for billing", "does it hurt billing?"],
    "over": [
        "is it over?",
        "is it fixed?",
        "has it recovered?",
        "is it still failing?",
        "are we back to normal",
    ],
    "considered": [
        "what else did you consider?",
        "any other explanations?",
        "what are the alternatives",
        "what did you rule out?",
        "why not something else",
    ],
    "evidence": ["what evidence do you have?", "how do you know?", "prove it", "what is that based on"],
    "timeline": ["show me the timeline", "in which order?"],
    "guidance": ["is there a runbook?", "any documentation for this?"],
    "help": ["help", "what can you do?"],
    "thanks": ["thanks!", "thank you", "great, thanks"],
    "hello": ["hi", "hello there"],
    "show": ["show E3", "what is [E12]?"],
    "unknown": [
        "what is the capital of France?",
        "why is the sky blue?",
        "who won the world cup?",
        "when does the train to Berlin leave?",
        "write me a poem about kittens",
        "how do I cook pasta?",
        "what's the weather tomorrow",
        "book a table for two",
        "asdf qwer zxcv",
        "translate bonjour please",
        "",
    ],
}


@pytest.mark.parametrize(("kind", "phrase"), [(k, p) for k, phrases in PHRASES.items() for p in phrases])
def test_a_phrase_is_understood(kind, phrase):
    assert read(phrase, COMPONENTS, CASE_WORDS).kind == kind


@pytest.mark.parametrize(
    ("phrase", "about"),
    [
        ("what about the cart?", ("cart-service",)),
        ("why not the db?", ("database",)),
        ("is it frontend or search?", ("frontend", "search")),
        ("show me the logs of bililng", ("billing",)),
        ("is it kafka?", ("queue",)),
    ],
)
def test_a_message_names_what_it_is_about(phrase, about):
    assert read(phrase, COMPONENTS, CASE_WORDS).about == about


def test_words_that_nobody_knows_are_named():
    assert read("show me the logs of warehouse", COMPONENTS, CASE_WORDS).unknown == ("warehouse",)


def test_a_citation_is_read_from_its_reference():
    assert read("what does [E7] say?", COMPONENTS).n == 7
