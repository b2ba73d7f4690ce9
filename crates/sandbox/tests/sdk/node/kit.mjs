// What the runs share: a client of a world, a receiver of webhooks, a browser, and how a step is told.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { chromium } from "playwright-core";
import Stripe from "stripe";

export const sandbox = new URL(process.env.SANDBOX);

/** Stripe's own client, pointed at a world of the sandbox. */
export function client(world, options = {}) {
  const { hostname, port } = sandbox;
  return new Stripe(`sk_test_${world}`, { protocol: "http", host: hostname, port, ...options });
}

/** Does one step, and says that it held. */
export async function step(name, work) {
  try {
    await work();
  } catch (error) {
    error.message = `${name}: ${error.message}`;
    throw error;
  }
  console.log(`  held: ${name}`);
}

/** The error that Stripe's client throws. */
export async function refused(promise) {
  let error;
  try {
    await promise;
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(error, "this should have been refused");
  return error;
}

/** Waits until something is there. */
export async function eventually(find, what) {
  const end = Date.now() + 15_000;
  for (;;) {
    const found = await find();
    if (found) {
      return found;
    }
    assert.ok(Date.now() < end, `${what} did not come`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A server on a free port; closed with the process. */
export async function serve(handler) {
  const server = createServer(handler).listen(0, "127.0.0.1");
  await once(server, "listening");
  server.unref();
  return `http://127.0.0.1:${server.address().port}`;
}

/** An endpoint that keeps the webhooks it gets. */
export async function receiver() {
  const hooks = [];
  const address = await serve(async (request, response) => {
    const parts = [];
    for await (const part of request) {
      parts.push(part);
    }
    hooks.push({ body: Buffer.concat(parts), signature: request.headers["stripe-signature"] });
    response.end();
  });
  const type = (hook) => JSON.parse(hook.body.toString()).type;
  return {
    url: `${address}/hooks`,
    wait: (wanted) => eventually(() => hooks.find((hook) => type(hook) === wanted), `the webhook ${wanted}`),
  };
}

/** A headless Chromium. */
export function browser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
  });
}
