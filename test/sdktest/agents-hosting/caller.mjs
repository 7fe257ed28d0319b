// A workload with a Microsoft 365 Agents SDK, which knows nothing of credagent but what its environment says.
// For each line of JSON on standard input it asks for a token, often and at once, and answers with
// a line of JSON: how often it got which token, what went wrong, how
// long it took, and whether the sidecar is healthy.

import { createInterface } from 'node:readline';
import { AuthType, SidecarAuthProvider } from '@microsoft/agents-hosting';

const ask = async ({ service, scope, agent_identity: agent, calls, callers }) => {
  const answer = { tokens: {}, errors: [] };
  const began = Date.now();
  let left = calls;
  const caller = async () => {
    while (left-- > 0) {
      try {
        // A provider of its own for each call: one keeps its token to itself.
        const provider = new SidecarAuthProvider({ authType: AuthType.EntraAuthSideCar, serviceName: service, scopes: [scope] });
        const token = await (agent ? provider.getAgenticInstanceToken(undefined, agent) : provider.getAccessToken(scope));
        answer.tokens[token] = (answer.tokens[token] ?? 0) + 1;
        answer.healthy = await provider.isHealthy();
      } catch (error) {
        answer.errors.push(String(error));
      }
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  answer.took_ms = Date.now() - began;
  return answer;
};

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await ask(JSON.parse(line)))}\n`);
}
