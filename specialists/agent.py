"""A LangChain agent on an OpenAI-compatible endpoint: works until the answer is filled in, or says why."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from traceback import format_exception
from typing import Any

import httpx
import openai
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelCallLimitMiddleware, ModelRequest, ModelResponse
from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.errors import GraphRecursionError

from specialists.answers import Answer, parsed
from specialists.errors import ModelError, ThreadGone
from specialists.hosted import forms, included, reported
from specialists.model_tools import Offer
from specialists.model_use import Answered, ModelUse
from specialists.settings import Cloud

log = logging.getLogger(__name__)

SPARE_TURNS = 4  # for correcting an answer that did not fit the form

BAD_ANSWER = (json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError)


async def ask(settings: Cloud, prompt: str, question: str, offers: list[Offer], use: ModelUse) -> Answer:
    """The model's answer; ModelError says what went wrong, never with the key in it."""
    taken = [ToolMessage("Your finding was taken.", tool_call_id=call) for call in use.waits_for]
    async with httpx.AsyncClient(timeout=settings.timeout, follow_redirects=False) as http:
        try:
            state = await _agent(settings, prompt, offers, use, http).ainvoke(
                {"messages": [*taken, HumanMessage(question)]},
                {"recursion_limit": 4 * (settings.max_tool_calls + SPARE_TURNS)},
            )
        except (openai.OpenAIError, ModelCallLimitExceededError, GraphRecursionError, *BAD_ANSWER) as error:
            log.debug("the agent stopped: %s", without_key("".join(format_exception(error)), settings))
            kind = ThreadGone if use.thread and _is_gone(error) else ModelError
            raise kind(told(settings, why(error, settings))) from None
    said = [message for message in state["messages"] if isinstance(message, AIMessage)]
    answer = state.get("structured_response") or (parsed(said[-1].text) if said else None)
    if answer is None:
        raise ModelError(told(settings, unfilled(bool(said) and _cut_off(said[-1]))))
    return answer


def _agent(settings: Cloud, prompt: str, offers: list[Offer], use: ModelUse, http: httpx.AsyncClient) -> Any:
    responses: dict[str, Any] = {"use_responses_api": False}
    if settings.provider == "openai":
        responses = {
            "use_responses_api": True,
            "output_version": "responses/v1",  # keeps the provider's own items as they came
            "use_previous_response_id": True,
            "include": included(use.hosted) or None,
        }
    model = ChatOpenAI(
        model=settings.model,
        base_url=settings.base_url,
        api_key=settings.key(),
        timeout=settings.timeout,
        max_retries=settings.retries,
        http_async_client=http,
        **responses,
    )
    limit = ModelCallLimitMiddleware(run_limit=settings.max_tool_calls + SPARE_TURNS, exit_behavior="error")
    tools = [*map(_tool, offers), *forms(use.hosted, settings)]
    middleware: Any = [limit, _Booked(use)]
    return create_agent(
        model, tools, system_prompt=prompt, middleware=middleware, response_format=ToolStrategy(Answer)
    )


def _tool(offer: Offer) -> StructuredTool:
    return StructuredTool(
        name=offer.name, description=offer.description, args_schema=offer.schema, coroutine=offer.call
    )


class _Booked(AgentMiddleware):
    """Asks the gateway before every request to the model, and writes every answer down."""

    def __init__(self, use: ModelUse) -> None:
        super().__init__()
        self._use = use

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        await self._use.ask()
        if self._use.thread and not any(isinstance(m, AIMessage) for m in request.messages):
            request = request.override(model_settings={"previous_response_id": self._use.thread})
        response = await handler(request)
        for message in response.result:
            if isinstance(message, AIMessage):
                await self._use.record(_answered(message, self._use.hosted))
        return response


def _answered(message: AIMessage, offered: tuple[str, ...]) -> Answered:
    used, meta = message.usage_metadata, message.response_metadata
    items = message.content if isinstance(message.content, list) else []
    return Answered(
        response=str(meta.get("id") or ""),
        version=str(meta.get("model_name") or ""),
        input_tokens=used["input_tokens"] if used else 0,
        output_tokens=used["output_tokens"] if used else 0,
        hosted=tuple(reported((item for item in items if isinstance(item, dict)), offered)),
        waits_for=tuple(str(call["id"]) for call in message.tool_calls),
    )


def _cut_off(message: AIMessage) -> bool:
    meta = message.response_metadata
    return meta.get("finish_reason") == "length" or meta.get("status") == "incomplete"


def _is_gone(error: Exception) -> bool:
    """Whether the provider no longer has the answer that we wanted to go on from."""
    return isinstance(error, openai.APIStatusError) and error.code == "previous_response_not_found"


def unfilled(cut_off: bool) -> str:
    """Why there is no answer although the model said something."""
    return "its answer was cut off: too long" if cut_off else "it did not fill in the answer"


def why(error: Exception, settings: Cloud) -> str:
    """What went wrong, in words; a server's own words are cut and the key is taken out of them."""
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return f"it refused the key (HTTP {error.status_code}); put a valid one in {settings.api_key_env}"
    if isinstance(error, openai.APITimeoutError):
        return f"no answer within {settings.timeout:g} s, tried {settings.retries + 1} times; raise timeout"
    if isinstance(error, openai.APIConnectionError):
        return "cannot connect; see that it runs and that base_url is right"
    if isinstance(error, openai.RateLimitError):
        return "it is busy or the quota is used up (HTTP 429); wait, or raise retries"
    if isinstance(error, openai.APIStatusError):
        return f"it answered HTTP {error.status_code}: {_safe(error.message, settings)}"
    if isinstance(error, ModelCallLimitExceededError | GraphRecursionError):
        return (
            f"it did not come to an answer within {settings.max_tool_calls} tool calls; raise max_tool_calls"
        )
    return f"its answer cannot be read ({type(error).__name__}: {_safe(str(error), settings)})"


def _safe(words: str, settings: Cloud) -> str:
    return without_key(words, settings)[:300]


def without_key(words: str, settings: Cloud) -> str:
    key = settings.key().get_secret_value()
    return words.replace(key, "***") if len(key) > 4 else words


def told(settings: Cloud, why: str) -> str:
    return f"model {settings.model} at {settings.base_url}: {why}"
