// Pages of two products as they are today, in a headless Chromium: their browser code pays by the sandbox's stripe.js, and
// their servers talk to farthing as they talked to the program before it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  CARDS, answerBank, browser, compile, eventually, fill, sandbox, serve, step, stripeJs,
} from "../../../sandbox/tests/sdk/node/kit.mjs";

const { FARTHING, CIRIS_KEY, PARENTPILOT_KEY } = process.env;
const built = compile(new URL("tsconfig.json", import.meta.url).pathname);
const chromium = await browser();

/** Asks farthing as the server of a product does, with its key. */
async function ask(key, method, path, { body, headers } = {}) {
  return fetch(`${FARTHING}${path}`, {
    method, body, headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}`, ...headers },
  });
}

/** The server of a product: its page, and what it answers below a path. */
function product(world, user, script, below, answer) {
  const imports = JSON.stringify({ imports: { "@stripe/stripe-js": "/stripe-js.mjs" } });
  const page = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Shop</title>
<script src="${sandbox.origin}/v3/stripe.js"></script><script type="importmap">${imports}</script>
<body data-key="pk_test_${world}" data-user="${user}"><form id="form"><div id="element"></div><button>Pay</button></form>
<p id="result" role="alert"></p><script type="module" src="/${script}"></script></body></html>`;
  const files = {
    "/": ["text/html", page],
    [`/${script}`]: ["text/javascript", readFileSync(join(built, script))],
    "/stripe-js.mjs": ["text/javascript", stripeJs()],
    "/payment-success": ["text/html", "<!doctype html><title>Thanks</title><p>Thank you"],
  };
  return serve(async (request, response) => {
    const path = new URL(request.url, "http://shop").pathname;
    if (!path.startsWith(below)) {
      const [type, body] = files[path] ?? [];
      response.writeHead(body ? 200 : 404, { "Content-Type": `${type}; charset=utf-8` }).end(body ?? "");
      return;
    }
    let said = "";
    for await (const part of request) {
      said += part;
    }
    const answered = await answer(request, path, said);
    response.writeHead(answered.status, { "Content-Type": "application/json" }).end(await answered.text());
  });
}

/** Opens the page, pays with this card, and answers the bank if it asks. */
async function pay(shop, card, answer) {
  const page = await chromium.newPage();
  page.on("pageerror", (error) => console.error("page:", error.message));
  await page.goto(shop);
  await fill(page, card);
  await page.getByRole("button", { name: "Pay" }).click();
  if (answer) {
    await answerBank(page, answer);
  }
  return page;
}

const told = (page, text) => page.getByRole("alert").getByText(text).waitFor();

// A product that sells uses by the pack. Its page has the Card Element.
const user = { oauth_provider: "oauth:google", external_id: "user@example.com" };
const uses = await product("ciris", user.external_id, "ciris.js", "/buy", () =>
  ask(CIRIS_KEY, "POST", "/v1/billing/purchases", {
    body: JSON.stringify({ ...user, customer_email: user.external_id }),
  }));

async function credits() {
  const body = JSON.stringify({ ...user, context: {} });
  return (await (await ask(CIRIS_KEY, "POST", "/v1/billing/credits/check", { body })).json()).credits_remaining;
}

await step("confirmCardPayment pays, and 20 uses are there", async () => {
  const page = await pay(uses, CARDS.good);
  await told(page, "Payment successful! 20 uses added.");
  await eventually(async () => (await credits()) === 20, "20 uses");
  await page.close();
});

await step("confirmCardPayment passes 3-D Secure, and 20 more are there", async () => {
  const page = await pay(uses, CARDS.asks, "Complete authentication");
  await told(page, "Payment successful! 20 uses added.");
  await eventually(async () => (await credits()) === 40, "20 more uses");
  await page.close();
});

await step("confirmCardPayment says that a card is declined or not authenticated, and gives nothing", async () => {
  for (const [card, answer, reason] of [
    [CARDS.declined, undefined, "Your card was declined."],
    [CARDS.asks, "Fail authentication", "unable to authenticate"],
  ]) {
    const page = await pay(uses, card, answer);
    await told(page, new RegExp(`Payment failed: .*${reason}`));
    await page.close();
  }
  assert.equal(await credits(), 40);
});

// A product whose users pay for what they have used. Its page has the Payment Element, and asks the product's server at the
// paths of its document; that one adds the key.
const parent = "2f1c8a52-6f0b-4f6e-9d55-0c2b7a0a7d11";
const asParent = (method, path, body) =>
  ask(PARENTPILOT_KEY, method, path, { body, headers: { "user-id": parent } });
const usage = await product("parentpilot", parent, "parentpilot.js", "/api/", (request, path, body) => {
  assert.equal(request.headers["user-id"], parent);
  return asParent(request.method, path, body);
});

async function data(path) {
  const answer = await asParent("GET", `/api/payments/${path}`);
  const said = await answer.json();
  assert.equal(answer.status, 200, JSON.stringify(said));
  return said.data;
}

const used = async () => (await data("billing")).billing.currentUsage;

/** Uses 1,000 tokens and a minute: 110 cents on the plan that everybody begins with. */
async function use(id) {
  for (const [meter, quantity] of [["tokens", 1000], ["execution_ms", 60_000]]) {
    const event = { customer: parent, meter, quantity, subject: "research", id: `${id}-${meter}` };
    const answer = await ask(PARENTPILOT_KEY, "POST", "/v1/events", { body: JSON.stringify(event) });
    assert.ok(answer.ok, await answer.text());
  }
  assert.equal(await used(), 110);
}

const opening = JSON.stringify({ email: "parent@example.com", name: "A Parent" });
const opened = await asParent("POST", "/api/payments/customers", opening);
assert.equal(opened.status, 200, await opened.text());

for (const [name, card, answer] of [
  ["confirmPayment pays, and the month begins anew", CARDS.good],
  ["confirmPayment passes 3-D Secure, and the month begins anew", CARDS.asks, "Complete authentication"],
]) {
  await step(name, async () => {
    await use(card);
    const page = await pay(usage, card, answer);
    await page.waitForURL(/payment-success\?.*redirect_status=succeeded/);
    await eventually(async () => (await used()) === 0, "a new month");
    const [newest] = await data("history");
    assert.deepEqual([newest.amount, newest.status], [2500, "succeeded"]);
    await page.close();
  });
}

await step("confirmPayment says that a card is declined or not authenticated, and the usage stays", async () => {
  await use("declined");
  for (const [card, answer, reason] of [
    [CARDS.declined, undefined, "Your card was declined."],
    [CARDS.asks, "Fail authentication", "unable to authenticate"],
  ]) {
    const page = await pay(usage, card, answer);
    await told(page, new RegExp(`Payment failed: .*${reason}`));
    await page.close();
  }
  assert.equal(await used(), 110);
});

await chromium.close();
