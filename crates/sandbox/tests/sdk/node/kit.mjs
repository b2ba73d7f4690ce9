// What the runs share: a client of a world, a receiver of webhooks, a browser and what a buyer does in it, and how a step is
// told.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import Stripe from "stripe";

export const sandbox = new URL(process.env.SANDBOX);

export const CARDS = {
  good: "4242424242424242",
  asks: "4000002760003184",
  asksOnce: "4000002500003155",
  declined: "4000000000000002",
  wrong: "4242424242424241",
};

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

/** A headless Chromium that has shown a page: on a busy machine one may end before its first, and is not what is tested. */
export async function browser() {
  for (let attempts = 3; ; attempts -= 1) {
    const launched = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox", "--disable-gpu", "--disable-gpu-process-crash-limit", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
      ],
    });
    try {
      const page = await launched.newPage();
      await page.goto(sandbox.href);
      await page.close();
      return launched;
    } catch (error) {
      await launched.close();
      if (attempts === 1) {
        throw error;
      }
      console.error(`Chromium ended before its first page: ${error.message}`);
    }
  }
}

/** Compiles pages, which are written in TypeScript against Stripe's types, into a folder; fails where they do not fit. */
export function compile(project) {
  const folder = mkdtempSync(join(tmpdir(), "sandbox-pages-"));
  const compiler = createRequire(import.meta.url).resolve("typescript/package.json").replace("package.json", "bin/tsc");
  execFileSync(process.execPath, [compiler, "--project", project, "--outDir", folder], { stdio: "inherit" });
  return folder;
}

/** Stripe's own loader, as pages import it. */
export function stripeJs() {
  return readFileSync(fileURLToPath(import.meta.resolve("@stripe/stripe-js/dist/index.mjs")));
}

/** Fills in the fields of a card, in the frame of an element. */
export async function fill(page, number, { expiry = "1234", cvc = "123", postal = "12345" } = {}) {
  const frame = page.frameLocator("#element iframe");
  await frame.getByLabel("Card number").pressSequentially(number);
  await frame.getByLabel("Expiration date").fill(expiry);
  await frame.getByLabel("Security code").fill(cvc);
  await frame.getByLabel("Postal code").fill(postal);
}

/** Answers what the bank asks, in the frame of 3-D Secure. */
export async function answerBank(page, button) {
  const bank = page.frameLocator('iframe[name="__privateStripeFrame-3ds"]');
  await bank.getByRole("button", { name: button }).click();
}
