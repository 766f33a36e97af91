"""Diffs: what a commit really changes, apart from what it only moves, renames, formats or documents."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

FILE_KINDS: tuple[tuple[str, str], ...] = (
    (
        "test",
        r"(^|/)(tests?|testdata|spec|__tests__|fixtures)/|_test\.\w+$|\.(test|spec)\.\w+$|(^|/)test_[^/]*$",
    ),
    ("docs", r"\.(md|rst|adoc|txt)$|(^|/)docs?/|(^|/)(readme|changelog|license|codeowners)[^/]*$"),
    (
        "ci",
        r"(^|/)\.(github|gitlab|circleci)|jenkinsfile|\.golangci|\.pre-commit|(^|/)\.?lint"
        r"|\.editorconfig|\.eslintrc",
    ),
    ("style", r"\.(css|scss|less|svg|png|ico|woff2?)$|(^|/)(templates?|static)/.*\.(html?|tmpl)$"),
    (
        "dependencies",
        r"(^|/)(go\.(mod|sum)|package(-lock)?\.json|requirements[^/]*\.txt|poetry\.lock|uv\.lock"
        r"|pom\.xml|build\.gradle\w*"
        r"|cargo\.(toml|lock)|gemfile(\.lock)?|yarn\.lock|constraints\.txt)$",
    ),
    ("migration", r"\.sql$|(^|/)(migrations?|alembic|flyway)/"),
    (
        "config",
        r"\.(ya?ml|toml|ini|cfg|conf|env|properties|json|tf|hcl|xml)$|(^|/)\.env|dockerfile|(^"
        r"|/)(config|deploy|charts)/",
    ),
)
HARMLESS = frozenset({"test", "docs", "ci", "style"})
COMMENT = re.compile(r"^\s*(#(?!\{)|//|/\*|\*(\s|/|$)|--\s|<!--|\"\"\"|''')")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:ms|s|m|h|mb|gb|kb|mi|gi|k)?(?![\w.])", re.I)
STRING = re.compile(r"\"([^\"\\]{1,80})\"|'([^'\\]{1,80})'|`([^`]{1,80})`")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CONTROL = re.compile(r"(^|[^\w])(if|unless|assert\w*|try|except|catch|recover|guard|require\w*|rescue)\b")
KEEPER = re.compile(
    r"leeway|toleran|skew|limit|timeout|deadline|lock|close|release|defer|finally|retry|fallback|escape"
    r"|saniti[sz]e|valid"
    r"|where|index|cache|batch|break|max|min|expire|ttl|evict|flush|commit|rollback|unsubscribe|cancel"
    r"|await|throttle"
    r"|ensure|default|verify|check|encode|quote|normali[sz]e|preload|prefetch|joinedload|include|eager",
    re.I,
)
LOOP = re.compile(r"\b(for|foreach|while|map|forEach|each)\b")
QUERY = re.compile(
    r"\b(select|insert|update|delete)\b.*\b(from|into|set|where)\b|\.(execute|query|fetch\w*|find\w*"
    r"|get\w*|first|one"
    r"|scalar|load\w*|request|post|send|call|exec|do|queryrow)\(|\b(fetch|query|execute|load|get|lookup"
    r"|select|call)_?\w*\(",
    re.I,
)
SAME_WORK = re.compile(
    r"\b(tidy|refactor|extract|rename|move|split|cleanup|clean up|format|gofmt|reorder|collapse"
    r"|simplif\w+|restyle|typo)\b",
    re.I,
)


@dataclass
class FileDiff:
    """The lines one file loses and gains, in order."""

    path: str
    removed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    context: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # as they stand in the diff, for quotes

    @property
    def kind(self) -> str:
        return file_kind(self.path)


@dataclass(frozen=True)
class Effect:
    """One thing a diff does to behaviour, how much it weighs, and the line that shows it."""

    kind: str  # value, guard, literal, loop, hot, removed, added, dependency, migration
    weight: float
    text: str  # what it does, to be read after "it"
    line: str  # a line of the diff


def file_kind(path: str) -> str:
    """What a file is for, by its path."""
    low = path.lower()
    return next((kind for kind, pattern in FILE_KINDS if re.search(pattern, low)), "code")


def parse(diff: str, files: tuple[str, ...] = ()) -> list[FileDiff]:
    """The files of a diff in any of the usual forms; headers that name no file use `files`."""
    found: list[FileDiff] = []
    current: FileDiff | None = None
    for line in (diff or "").splitlines():
        if line.startswith(("diff --git", "index ", "new file", "deleted file", "similarity ", "--- ")):
            continue
        if line.startswith("+++ "):
            current = _file(found, line[4:].strip().removeprefix("b/"))
        elif line.startswith("@@"):
            named = _named(line, files)
            current = _file(found, named) if named else current or _file(found, files[0] if files else "")
            current.context.append(line)
        else:
            current = current or _file(found, files[0] if files else "")
            _take(current, line)
    return found


def _file(found: list[FileDiff], path: str) -> FileDiff:
    for one in found:
        if one.path == path:
            return one
    found.append(FileDiff(path))
    return found[-1]


def _named(header: str, files: tuple[str, ...]) -> str:
    for path in files:
        if path in header:
            return path
    match = re.search(r"@@\s+([\w./-]+/[\w.-]+|[\w.-]+\.\w{1,5})", header)
    return match[1].rstrip(":") if match else ""


def _take(file: FileDiff, line: str) -> None:
    file.lines.append(line)
    body = line[1:]
    if line.startswith("-"):
        file.removed.append(body)
    elif line.startswith("+"):
        file.added.append(body)
    else:
        file.context.append(body)


def squeeze(line: str) -> str:
    """A line without the white space that formatting changes."""
    return re.sub(r"\s+", "", line).rstrip(",;")


def words(line: str) -> Counter[str]:
    """The identifiers, numbers and strings of a line."""
    return Counter(WORD.findall(line)) + Counter(NUMBER.findall(line))


def effects(file: FileDiff) -> list[Effect]:
    """What the changes of one file do, the weightiest first; nothing when they only move or format."""
    if file.kind in HARMLESS:
        return []
    removed = [x for x in file.removed if x.strip() and not COMMENT.match(x)]
    added = [x for x in file.added if x.strip() and not COMMENT.match(x)]
    gone, new = _without_moves(removed, added)
    if not gone and not new:
        return []
    if file.kind == "dependencies":
        return _dependency(gone, new)
    found: list[Effect] = []
    paired = _pairs(gone, new)
    text_new = " ".join(added)
    for old, fresh in paired:
        found += _replaced(old, fresh, text_new)
    rest_gone = [x for x in gone if x not in {a for a, _ in paired}]
    rest_new = [x for x in new if x not in {b for _, b in paired}]
    found += _lost(rest_gone, rest_new, removed, added)
    found += _loops(file, rest_new)
    if file.kind == "migration" and (gone or new):
        found.append(Effect("migration", 1.2, "changes the database's form", (new or gone)[0]))
    if rest_new and not found:
        found.append(Effect("added", 0.35, "adds code", rest_new[0]))
    return sorted(found, key=lambda e: -e.weight)


def _without_moves(removed: list[str], added: list[str]) -> tuple[list[str], list[str]]:
    """The lines left after those that only moved or were reformatted."""
    gone, new = Counter(map(squeeze, removed)), Counter(map(squeeze, added))
    both = gone & new
    if squeeze("".join(removed)) == squeeze("".join(added)):
        return [], []
    return _minus(removed, both), _minus(added, both)


def _minus(lines: list[str], taken: Counter[str]) -> list[str]:
    left, out = Counter(taken), []
    for line in lines:
        key = squeeze(line)
        if left[key] > 0:
            left[key] -= 1
        else:
            out.append(line)
    return out


def _pairs(gone: list[str], new: list[str]) -> list[tuple[str, str]]:
    """Old lines with the new lines that replace them: those that share most of their words."""
    pairs: list[tuple[str, str]] = []
    free = list(new)
    for old in gone:
        mine = words(old)
        scored = [
            (sum((mine & words(x)).values()) / max(1, max(sum(mine.values()), sum(words(x).values()))), x)
            for x in free
        ]
        best = max(scored, default=(0.0, ""))
        if best[0] >= 0.4:
            pairs.append((old, best[1]))
            free.remove(best[1])
    return pairs


def _replaced(old: str, new: str, text_new: str) -> list[Effect]:
    """What changes when one line replaces another: numbers, strings, switches."""
    a, b = NUMBER.findall(old), NUMBER.findall(new)
    bare_old, bare_new = NUMBER.sub("#", old), NUMBER.sub("#", new)
    if squeeze(bare_old) == squeeze(bare_new) and a != b:
        was, now = next(((x, y) for x, y in zip(a, b, strict=False) if x != y), ("", ""))
        name = _subject(old)
        return [Effect("value", 1.0, f"changes {name} from {was} to {now}", new)]
    s, t = ["".join(m) for m in STRING.findall(old)], ["".join(m) for m in STRING.findall(new)]
    if s != t and squeeze(STRING.sub("#", old)) == squeeze(STRING.sub("#", new)):
        was, now = next(((x, y) for x, y in zip(s, t, strict=False) if x != y), ("", ""))
        if " " in was.strip():
            return [Effect("text", 0.6, f"changes the text “{was[:50]}”", new)]
        return [Effect("literal", 1.0, f'changes "{was}" to "{now}"', new)]
    before, after = words(old) - words(new), words(new) - words(old)
    if before or after:
        was, now = " ".join(list(before)[:3]), " ".join(list(after)[:3])
        if (":" in old or "=" in old) and "(" not in old + new:
            key_old, key_new = _key(old), _key(new)
            if key_old and key_old == key_new and len(before) <= 2 and len(after) <= 2 and was and now:
                return [Effect("value", 1.0, f"changes {key_old} from {was} to {now}", new)]
        kept = [w for w in before if KEEPER.search(w)]
        if (
            kept
            and not re.search(rf"\b{re.escape(kept[0])}\b", text_new)
            and not any(map(KEEPER.search, after))
        ):
            return [Effect("guard", 0.9, f"drops {kept[0]} from `{old.strip()[:60]}`", old)]
        return [Effect("line", 0.45, f"replaces {was or 'a line'} by {now or 'another'}", new)]
    return [Effect("line", 0.3, "changes a line", new)]


def _key(line: str) -> str:
    match = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*[:=]", line)
    return match[1] if match else ""


def _subject(line: str) -> str:
    return _key(line) or next(iter(WORD.findall(line)), "a value")


def _lost(gone: list[str], new: list[str], removed: list[str], added: list[str]) -> list[Effect]:
    """Checks, limits and other lines that are gone and do not come back in another form."""
    found: list[Effect] = []
    text_new = " ".join(added)
    fewer = sum(1 for x in removed if CONTROL.search(x)) - sum(1 for x in added if CONTROL.search(x))
    for line in gone:
        shown = line.strip()[:70]
        keepers = [w for w in WORD.findall(line) if KEEPER.search(w)]
        if CONTROL.search(line) and fewer > 0:
            fewer -= 1
            found.append(Effect("guard", 1.3, f"drops the check `{shown}`", line))
        elif keepers and not any(re.search(rf"\b{re.escape(w)}\b", text_new) for w in keepers):
            found.append(Effect("guard", 1.1, f"drops `{shown}`", line))
        elif not _comes_back(line, text_new):
            found.append(Effect("removed", 0.3 if new else 0.6, f"removes `{shown}`", line))
    return sorted(found, key=lambda e: -e.weight)[:4]


def _comes_back(line: str, text_new: str) -> bool:
    mine = [w for w in WORD.findall(line) if len(w) > 2]
    missing = [w for w in mine if not re.search(rf"\b{re.escape(w)}\b", text_new)]
    return not mine or len(missing) / len(mine) < 0.4


def _loops(file: FileDiff, new: list[str]) -> list[Effect]:
    """Queries and calls that now run once for each item."""
    body = [line for line in file.lines if not line.startswith("-")]
    for at, line in enumerate(body):
        if not LOOP.search(line):
            continue
        for inner in body[at : at + 6]:
            if (
                inner.startswith("+")
                and QUERY.search(inner)
                and any(squeeze(inner[1:]) == squeeze(x) for x in new)
            ):
                return [Effect("loop", 1.6, "makes a query or call for each item of a loop", inner[1:])]
    return []


def _dependency(gone: list[str], new: list[str]) -> list[Effect]:
    """How far versions moved: a patch is little, a major version much."""
    best: Effect | None = None
    for old, fresh in _pairs(gone, new) or [("", x) for x in new]:
        a, b = (re.search(r"v?(\d+)\.(\d+)(?:\.(\d+))?", x) for x in (old, fresh))
        weight = 0.3
        if a and b:
            weight = 0.7 if a[1] != b[1] else 0.35 if a[2] != b[2] else 0.1
        name = next(iter(re.findall(r"[\w./@-]+/[\w./-]+|[\w-]{3,}", fresh)), "a dependency")
        effect = Effect("dependency", weight, f"moves {name} to another version", fresh)
        best = effect if best is None or effect.weight > best.weight else best
    return [best] if best else []
