// A workload with @azure/identity, which knows nothing of credagent but what its environment says.
// For each line of JSON on standard input it asks for a token, often and at once, and answers with
// a line of JSON: how often it got which token, and what went wrong.

import { createInterface } from 'node:readline';
import { DefaultAzureCredential, ManagedIdentityCredential } from '@azure/identity';

function credentialFor({ credential, client_id: clientId }) {
  switch (credential) {
    case 'managed':
      return clientId ? new ManagedIdentityCredential({ clientId }) : new ManagedIdentityCredential();
    case 'default':
      return new DefaultAzureCredential();
  }
  throw new Error(`no such credential: ${credential}`);
}

async function ask(order) {
  const credential = credentialFor(order);
  const answer = { tokens: {}, errors: [] };
  let left = order.calls;
  const caller = async () => {
    while (left-- > 0) {
      try {
        const { token, expiresOnTimestamp } = await credential.getToken(order.scope);
        answer.tokens[token] = (answer.tokens[token] ?? 0) + 1;
        answer.expires_on = Math.floor(expiresOnTimestamp / 1000);
      } catch (error) {
        answer.errors.push(String(error));
      }
    }
  };
  await Promise.all(Array.from({ length: order.callers }, caller));
  return answer;
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await ask(JSON.parse(line)))}\n`);
}
