// An oidc-provider on loopback TLS for credagent's integration tests.
//
//   node server.mjs --cert CERT.pem --key KEY.pem --clients CLIENTS.json [--ttl SECONDS] [--scopes "A B"]
//     [--tls TLSv1.2|TLSv1.3] [--mtls-alias]
//
// With --mtls-alias, client certificates are asked for only on a second port, which discovery names
// in mtls_endpoint_aliases (RFC 8705, 5); otherwise on the one port that there is.
//
// Once it listens it prints one JSON line, {"issuer": …, "port": …}, on stdout; everything else it
// says goes to stderr. It exits when its stdin closes. GET /_test/requests lists the token requests
// seen so far. A client certificate is verified against the roots in NODE_EXTRA_CA_CERTS: an https
// "ca" option would also be announced to clients, and TLS stacks that follow the announcement would
// then withhold a self-signed certificate.

import { Console } from 'node:console';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { parseArgs } from 'node:util';

import { errors, Provider } from 'oidc-provider';

globalThis.console = new Console(process.stderr);

const resourceFormats = new Map([
  ['https://opaque.example.com', 'opaque'],
  ['https://jwt.example.com', 'jwt'],
]);

class MemoryAdapter {
  static #models = new Map();

  #rows;

  constructor(model) {
    if (!MemoryAdapter.#models.has(model)) MemoryAdapter.#models.set(model, new Map());
    this.#rows = MemoryAdapter.#models.get(model);
  }

  async upsert(id, payload) { this.#rows.set(id, payload); }

  async find(id) { return this.#rows.get(id); }

  async destroy(id) { this.#rows.delete(id); }
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      cert: { type: 'string' },
      key: { type: 'string' },
      clients: { type: 'string' },
      ttl: { type: 'string', default: '600' },
      scopes: { type: 'string', default: '' },
      tls: { type: 'string' },
      'mtls-alias': { type: 'boolean', default: false },
    },
  });
  return {
    tls: values.tls,
    mtlsAlias: values['mtls-alias'],
    cert: readFileSync(values.cert),
    key: readFileSync(values.key),
    clients: JSON.parse(readFileSync(values.clients, 'utf8')),
    ttl: Number(values.ttl),
    scopes: values.scopes.split(' ').filter(Boolean),
  };
}

function clientCertificate(ctx) {
  return ctx.req.socket.getPeerX509Certificate();
}

// Node lists a name's attributes in the certificate's order, one a line; RFC 4514, 2.1 wants the reverse.
function subjectMatches(ctx, property, expected) {
  if (property !== 'tls_client_auth_subject_dn') return false;
  return clientCertificate(ctx).subject.split('\n').reverse().join(',') === expected;
}

function resourceServerInfo(resource, scopes) {
  const accessTokenFormat = resourceFormats.get(resource);
  if (!accessTokenFormat) throw new errors.InvalidTarget();
  return { scope: scopes.join(' '), audience: resource, accessTokenFormat };
}

function features(scopes) {
  return {
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: async () => true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: async (_ctx, resource) => resourceServerInfo(resource, scopes),
    },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      selfSignedTlsClientAuth: true,
      tlsClientAuth: true,
      getCertificate: clientCertificate,
      certificateAuthorized: (ctx) => ctx.req.socket.authorized,
      certificateSubjectMatches: subjectMatches,
    },
    devInteractions: { enabled: false },
    rpInitiatedLogout: { enabled: false },
    userinfo: { enabled: false },
  };
}

function configuration({ clients, scopes, ttl }, discovery) {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    adapter: MemoryAdapter,
    clients,
    clientAuthMethods: [
      'client_secret_basic',
      'client_secret_post',
      'private_key_jwt',
      'tls_client_auth',
      'self_signed_tls_client_auth',
    ],
    clientDefaults: {
      grant_types: ['client_credentials'],
      response_types: [],
      id_token_signed_response_alg: 'ES256',
    },
    // A token must stop introspecting as active when its life ends, not some seconds later.
    clockTolerance: 0,
    enabledJWA: { clientAuthSigningAlgValues: ['PS256', 'RS256', 'ES256', 'ES384', 'EdDSA'] },
    discovery,
    features: features(scopes),
    jwks: { keys: [privateKey.export({ format: 'jwk' })] },
    scopes,
    ttl: { ClientCredentials: ttl },
  };
}

function recordTokenRequests(provider) {
  const requests = [];
  const tokenPath = provider.pathFor('token');
  provider.use(async (ctx, next) => {
    if (ctx.path === '/_test/requests') {
      ctx.body = requests;
      return;
    }
    await next();
    if (ctx.path === tokenPath) {
      requests.push({
        client_id: ctx.oidc?.entities.Client?.clientId ?? '',
        status: ctx.status,
        tls: ctx.req.socket.getProtocol(),
        port: ctx.req.socket.localPort,
        certificate: clientCertificate(ctx) !== undefined,
      });
    }
  });
}

// Static clients are otherwise only checked when they are first used.
async function checkClients(provider, clients) {
  for (const { client_id: id } of clients) {
    try {
      await provider.Client.find(id);
    } catch (err) {
      throw new Error(`registering client "${id}": ${err.error_description ?? err.message}`, { cause: err });
    }
  }
}

async function listen({ cert, key, tls }, requestCert) {
  const server = createServer({
    cert,
    key,
    minVersion: tls,
    maxVersion: tls,
    requestCert,
    rejectUnauthorized: false,
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return { server, url: `https://127.0.0.1:${server.address().port}` };
}

async function serve() {
  const options = readOptions();
  const front = await listen(options, !options.mtlsAlias);
  const listeners = [front];
  const discovery = {};
  if (options.mtlsAlias) {
    const side = await listen(options, true);
    listeners.push(side);
    discovery.mtls_endpoint_aliases = { token_endpoint: `${side.url}/token` };
  }

  const issuer = front.url;
  const provider = new Provider(issuer, configuration(options, discovery));
  provider.on('server_error', (_ctx, err) => console.error(err));
  recordTokenRequests(provider);
  await checkClients(provider, options.clients);
  for (const { server } of listeners) server.on('request', provider.callback());
  process.stdout.write(`${JSON.stringify({ issuer, port: front.server.address().port })}\n`);
}

process.stdin.on('close', () => process.exit(0)).resume();
try {
  await serve();
} catch (err) {
  console.error(err.message);
  process.exit(1);
}
