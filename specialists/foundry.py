"""An Azure AI Foundry agent, through the Microsoft Agent Framework (extra `azure`).

Threads live at the service: a session goes on from the last response. Our tools run here, through the
gateway; the answer form is a tool that nobody runs, so that filling it in ends the run.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from traceback import format_exception
from typing import Any

import openai
from pydantic import ValidationError

from specialists.agent import BAD_ANSWER, SPARE_TURNS, told, unfilled, why, without_key
from specialists.answers import Answer, parsed
from specialists.errors import ModelError, SpecialistsError, ThreadGone
from specialists.hosted import forms, included, reported
from specialists.model_tools import Offer
from specialists.model_use import Answered, ModelUse
from specialists.settings import Cloud

try:
    from agent_framework import Agent, ChatContext, ChatMiddleware, Content, FunctionTool, Message
    from agent_framework.exceptions import AgentFrameworkException
    from agent_framework.foundry import FoundryChatClient
    from azure.core.credentials import AccessToken
    from azure.core.exceptions import AzureError
    from azure.identity.aio import DefaultAzureCredential
except ImportError as error:
    raise ModelError(
        f"provider 'foundry' needs the extra: pip install 'pointsman[azure]' ({error})"
    ) from error

log = logging.getLogger(__name__)
# At debug level the framework repeats what a provider says, in which the token may stand.
logging.getLogger("agent_framework").setLevel(logging.INFO)

FORM = "Answer"


class GivenToken:
    """A credential that holds one Entra access token, taken from the environment."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """The token, whatever it is asked for."""
        return AccessToken(self._token, int(time.time()) + 3_600)

    async def close(self) -> None:
        """There is nothing to close."""

    async def __aenter__(self) -> GivenToken:
        return self

    async def __aexit__(self, *failure: Any) -> None:
        """There is nothing to close."""


def credential(settings: Cloud) -> Any:
    """The token that the settings name, else whatever identity this machine has in Azure."""
    if "api_key_env" in settings.model_fields_set and os.environ.get(settings.api_key_env):
        return GivenToken(settings.key().get_secret_value())
    return DefaultAzureCredential()


async def ask(settings: Cloud, prompt: str, question: str, offers: list[Offer], use: ModelUse) -> Answer:
    """The model's answer; ModelError says what went wrong, never with a token in it."""
    run = _Run(settings, use)
    try:
        async with _client(settings) as client:
            agent = Agent(
                client,
                name="specialist",
                instructions=prompt,
                tools=[*map(run.tool, offers), _form(), *forms(use.hosted, settings)],
                middleware=[run],
            )
            return await run.answer(agent, question)
    except (openai.OpenAIError, AgentFrameworkException, AzureError, *BAD_ANSWER) as error:
        if run.broken is not None:
            raise run.broken from None
        log.debug("the agent stopped: %s", without_key("".join(format_exception(error)), settings))
        cause = _cause(error)
        gone = isinstance(cause, openai.APIStatusError) and cause.code == "previous_response_not_found"
        kind = ThreadGone if use.thread and gone else ModelError
        raise kind(told(settings, why(cause, settings))) from None


@asynccontextmanager
async def _client(settings: Cloud) -> AsyncIterator[FoundryChatClient]:
    async with credential(settings) as identity:
        client = FoundryChatClient(
            project_endpoint=settings.base_url, model=settings.model, credential=identity
        )
        limits: Any = client.function_invocation_configuration
        limits |= {"max_iterations": settings.max_tool_calls + SPARE_TURNS, "include_detailed_errors": True}
        patient = client.client.with_options(timeout=settings.timeout, max_retries=settings.retries)
        async with client.project_client, patient:
            client.client = patient
            yield client


def _form() -> FunctionTool:
    """The answer form: a tool without a function, so that the run ends where it is filled in."""
    return FunctionTool(
        name=FORM, description=Answer.__doc__ or "", input_model=Answer.model_json_schema(), func=None
    )


class _AsGiven(dict[str, Any]):
    """A schema that nobody writes into."""

    def __setitem__(self, key: str, value: Any) -> None:
        """Keep what is there."""


class _Tool(FunctionTool):
    """A tool whose schema goes out as the gateway gave it.

    The client (agent-framework-openai 1.17) writes `additionalProperties: false` into what it is given,
    sends it and checks arguments by it: no tool could take more than its schema lists, which may be nothing.
    """

    def parameters(self) -> dict[str, Any]:
        """The schema, in a form that stays as it is."""
        return _AsGiven(super().parameters())


class _Run(ChatMiddleware):
    """One task's run: asks the gateway before every request, writes every answer down."""

    def __init__(self, settings: Cloud, use: ModelUse) -> None:
        self._settings = settings
        self._use = use
        self.broken: SpecialistsError | None = None  # what a tool could not tell the model

    async def process(self, context: ChatContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Let one request through, and its answer."""
        if self.broken is not None:
            raise self.broken
        await self._use.ask()
        await call_next()
        await self._use.record(_answered(context.result, self._use.hosted))

    def tool(self, offer: Offer) -> FunctionTool:
        """A tool of ours as the framework wants it (it tells the model of every error, so we keep ours)."""

        async def call(**arguments: Any) -> str:
            try:
                return await offer.call(**arguments)
            except SpecialistsError as error:
                self.broken = error
                raise

        return _Tool(
            name=offer.name, description=offer.description, input_model=offer.schema, func=call,
            approval_mode="never_require",  # policy decides at the gateway
        )  # fmt: skip

    async def answer(self, agent: Agent, question: str) -> Answer:
        """The answer filled in; a form that does not fit may be corrected."""
        session = agent.get_session(self._use.thread) if self._use.thread else agent.create_session()
        taken = [_result(call, "Your finding was taken.") for call in self._use.waits_for]
        messages = [*([Message("tool", taken)] if taken else []), Message("user", [question])]
        include = included(self._use.hosted)
        options: Any = {"include": include} if include else {}
        for _ in range(SPARE_TURNS):
            response = await agent.run(messages, session=session, options=options)
            if self.broken is not None:
                raise self.broken
            calls = [c for m in response.messages for c in m.contents if _is_form(c)]
            if not calls:
                if (answer := parsed(response.text)) is not None:
                    return answer
                cut = response.finish_reason == "length"
                raise ModelError(told(self._settings, unfilled(cut)))
            try:
                return Answer.model_validate_json(_arguments(calls[-1]))
            except ValidationError as error:
                wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:10])
                said = f"This does not fit the form: {wrong}. Fill it in again."
                messages = [Message("tool", [_result(str(call.call_id), said) for call in calls])]
        raise ModelError(told(self._settings, unfilled(cut_off=False)))


def _is_form(content: Content) -> bool:
    return content.type == "function_call" and content.name == FORM


def _arguments(content: Content) -> str:
    said = content.arguments
    return said if isinstance(said, str) else json.dumps(said)


def _result(call: str, words: str) -> Content:
    return Content.from_function_result(call, result=words)


def _answered(response: Any, offered: tuple[str, ...]) -> Answered:
    raw = response.raw_representation
    items = [item.model_dump(mode="json", warnings=False) for item in getattr(raw, "output", None) or ()]
    used = response.usage_details or {}
    return Answered(
        response=str(response.response_id or ""),
        version=str(response.model or ""),
        input_tokens=int(used.get("input_token_count") or 0),
        output_tokens=int(used.get("output_token_count") or 0),
        hosted=tuple(reported(items, offered)),
        waits_for=tuple(str(item["call_id"]) for item in items if item["type"] == "function_call"),
    )


def _cause(error: BaseException) -> Any:
    """The provider's own error inside the framework's."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, openai.OpenAIError | AzureError):
            return inner
        inner = inner.__cause__ or inner.__context__
    return error
