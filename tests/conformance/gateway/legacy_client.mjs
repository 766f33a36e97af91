// The TypeScript SDK of the old era: node legacy_client.mjs PACKAGES URL TOKEN; prints one JSON object.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, url, token] = process.argv.slice(2);
const from = createRequire(`${packages}/package.json`);
const load = (name) => import(pathToFileURL(from.resolve(`@modelcontextprotocol/sdk/${name}`)));
const { Client } = await load("client/index.js");
const { StreamableHTTPClientTransport } = await load("client/streamableHttp.js");
const { ElicitRequestSchema } = await load("types.js");

const client = new Client({ name: "ts-legacy", version: "1" }, { capabilities: { elicitation: {} } });
client.setRequestHandler(ElicitRequestSchema, async () => ({ action: "accept", content: { response: "yes" } }));
const requestInit = { headers: { Authorization: `Bearer ${token}` } };
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));

const progress = [];
const call = (name, args = {}, options) => client.callTool({ name: `fx__${name}`, arguments: args }, undefined, options);
const told = {
  tools: (await client.listTools()).tools.map((tool) => tool.name),
  echo: await call("x_echo", { a: 1 }),
  error: await call("test_error_handling"),
  asked: await call("test_elicitation", { message: "Sure?" }),
  seen: await call("x_whoami"),
  long: await call("test_tool_with_progress", {}, { onprogress: (step) => progress.push(step.progress) }),
  refused: await call("nothing"),
};
console.log(JSON.stringify({ ...told, progress }));
await client.close();
